-- After, not before: a BEFORE ROW trigger would forbid COPY its batches, and rows without a key pay nothing for this one.
create or replace trigger run_takes_unique_key after insert on scheduler.run
for each row when (new.unique_key is not null) execute function scheduler.take_unique_key();
comment on trigger run_takes_unique_key on scheduler.run is 'One pending or running run per (app, unique_key).';

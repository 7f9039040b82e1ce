-- After, not before: a BEFORE ROW trigger would forbid COPY its batches. Without a condition: each statement parses it
-- anew, which costs more than it spares.
create or replace trigger run_is_added after insert on scheduler.run
for each row execute function scheduler.run_added();
comment on trigger run_is_added on scheduler.run is 'One pending or running run per unique key; a hint to who awaits it.';

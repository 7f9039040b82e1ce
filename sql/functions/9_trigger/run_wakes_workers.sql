create or replace trigger run_wakes_workers after insert on scheduler.run
referencing new table as inserted
for each statement execute function scheduler.wake_workers();
comment on trigger run_wakes_workers on scheduler.run is 'A hint; losing it costs the poll floor, never work.';

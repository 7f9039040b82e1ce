-- Before, because afterwards the foreign key of job_schedule would refuse it first, and say nothing of what to do.
create or replace trigger job_keeps_its_name before update of app, name on scheduler.job
for each row when (old.app <> new.app or old.name <> new.name) execute function scheduler.job_changed();
comment on trigger job_keeps_its_name on scheduler.job is 'The ledger and the history know a job by its name.';

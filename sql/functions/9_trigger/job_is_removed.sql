-- Before, because afterwards the row that planners lock, job_schedule, has gone with its job.
create or replace trigger job_is_removed before delete on scheduler.job
for each row execute function scheduler.job_changed();
comment on trigger job_is_removed on scheduler.job is 'Takes back what was planned for a job that goes.';

create or replace trigger job_is_changed after insert or update on scheduler.job
for each row execute function scheduler.job_changed();
comment on trigger job_is_changed on scheduler.job is 'Keeps job_schedule and planned runs in step with the definition.';

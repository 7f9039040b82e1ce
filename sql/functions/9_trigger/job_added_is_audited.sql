create or replace trigger job_added_is_audited after insert on scheduler.job
referencing new table as new_rows
for each statement execute function scheduler.audit_jobs();
comment on trigger job_added_is_audited on scheduler.job is 'New definitions go into the audit.';

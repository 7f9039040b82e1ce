create or replace trigger job_edit_is_audited after update on scheduler.job
referencing old table as old_rows new table as new_rows
for each statement execute function scheduler.audit_jobs();
comment on trigger job_edit_is_audited on scheduler.job is 'Edits and pauses go into the audit.';

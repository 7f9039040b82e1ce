create or replace trigger job_removal_is_audited after delete on scheduler.job
referencing old table as old_rows
for each statement execute function scheduler.audit_jobs();
comment on trigger job_removal_is_audited on scheduler.job is 'Removals go into the audit.';

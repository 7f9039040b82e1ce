create or replace trigger owner_change_is_audited after update on scheduler.owner
referencing old table as old_rows new table as new_rows
for each statement execute function scheduler.audit_owner();
comment on trigger owner_change_is_audited on scheduler.owner is 'An app that a person gives away goes into the audit.';

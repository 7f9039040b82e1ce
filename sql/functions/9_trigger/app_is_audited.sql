create or replace trigger app_is_audited after insert or update or delete on scheduler.app
for each row execute function scheduler.audit_app();
comment on trigger app_is_audited on scheduler.app is 'Pauses of apps go into the audit.';

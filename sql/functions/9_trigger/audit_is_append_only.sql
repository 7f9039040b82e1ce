create or replace trigger audit_is_append_only before update or delete or truncate on scheduler.audit
for each statement execute function scheduler.refuse_rewriting();
comment on trigger audit_is_append_only on scheduler.audit is 'What the audit says stays as it is.';

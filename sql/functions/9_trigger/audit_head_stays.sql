create or replace trigger audit_head_stays before delete or truncate on scheduler.audit_head
for each statement execute function scheduler.refuse_rewriting();
comment on trigger audit_head_stays on scheduler.audit_head is 'Without its head, a chain that was cut off looks whole.';

create or replace trigger audit_head_only_grows before update on scheduler.audit_head
for each row when (new.app <> old.app or new.n <= old.n) execute function scheduler.refuse_rewriting();
comment on trigger audit_head_only_grows on scheduler.audit_head is 'A head never goes back.';

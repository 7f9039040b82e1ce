-- Dropped first: there is no `create or replace` of a constraint trigger, and only these can wait for the commit.
drop trigger if exists audit_is_sealed on scheduler.audit_pending;
create constraint trigger audit_is_sealed after insert on scheduler.audit_pending
deferrable initially deferred
for each row when (new.seals) execute function scheduler.seal();
comment on trigger audit_is_sealed on scheduler.audit_pending is 'What was changed enters the chains at the commit.';

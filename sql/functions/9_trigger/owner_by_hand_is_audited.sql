-- For each row: assign_apps tries to insert once a second, nearly always nothing, which then costs nothing.
create or replace trigger owner_by_hand_is_audited after insert or delete on scheduler.owner
for each row execute function scheduler.audit_owner();
comment on trigger owner_by_hand_is_audited on scheduler.owner is 'An owner that a person adds or removes goes into the audit.';

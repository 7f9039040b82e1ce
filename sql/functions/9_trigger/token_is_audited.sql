-- Not of last_used_at, which every request may move.
create or replace trigger token_is_audited
after insert or delete or update of name, hash, prefix, scopes, apps, expires_at, revoked_at on scheduler.token
for each row execute function scheduler.audit_token();
comment on trigger token_is_audited on scheduler.token is 'Tokens that are made, changed and revoked go into the audit.';

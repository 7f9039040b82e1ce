-- Of these columns only: claims move full_at, and must not pay for this.
create or replace trigger queue_limit_is_audited
after insert or delete or update of app, queue, concurrency_limit, rate_limit, rate_interval on scheduler.queue_limit
for each row execute function scheduler.audit_limit();
comment on trigger queue_limit_is_audited on scheduler.queue_limit is 'Limits of queues go into the audit.';

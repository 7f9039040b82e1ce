-- Does everything but what changes the schema: definitions, pauses, limits, tokens, restrictions of roles. Not TRIGGER and
-- not TRUNCATE: a trigger would run with the rights of whoever writes next, the owner's server among them.
revoke all on all tables in schema scheduler from scheduler_admin;
revoke all on all sequences in schema scheduler from scheduler_admin;
revoke all on all functions in schema scheduler from scheduler_admin;
grant usage on schema scheduler to scheduler_admin;
grant select, insert, update, delete on
    scheduler.app, scheduler.job, scheduler.job_schedule, scheduler.fire, scheduler.owner, scheduler.server,
    scheduler.worker, scheduler.run, scheduler.lease, scheduler.run_key, scheduler.slot, scheduler.queue_limit,
    scheduler.history, scheduler.log, scheduler.pulse, scheduler.token, scheduler.event_lock,
    scheduler.alarm
    to scheduler_admin;
grant select on
    scheduler.runs, scheduler.migration, scheduler.restriction, scheduler.audit, scheduler.audit_head,
    scheduler.alarm_state
    to scheduler_admin;
grant usage on all sequences in schema scheduler to scheduler_admin;
grant execute on all functions in schema scheduler to scheduler_admin;

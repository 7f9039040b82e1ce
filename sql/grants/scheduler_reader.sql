-- Sees definitions, runs in every state, their logs, the ledger, and who is there. No token, and who is restricted to what.
revoke all on all tables in schema scheduler from scheduler_reader;
revoke all on all sequences in schema scheduler from scheduler_reader;
revoke all on all functions in schema scheduler from scheduler_reader;
grant usage on schema scheduler to scheduler_reader;
grant select on
    scheduler.app, scheduler.job, scheduler.job_schedule, scheduler.fire, scheduler.owner, scheduler.server,
    scheduler.worker, scheduler.run, scheduler.lease, scheduler.run_key, scheduler.slot, scheduler.queue_limit,
    scheduler.history, scheduler.log, scheduler.pulse, scheduler.event_lock, scheduler.runs, scheduler.migration,
    scheduler.alarm, scheduler.alarm_state
    to scheduler_reader;
grant execute on function
    scheduler.clock(), scheduler.locate(text), scheduler.lanes(text, text), scheduler.leeway(text, text)
    to scheduler_reader;

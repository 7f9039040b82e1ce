-- Speaks the worker protocol, and sees of the tables nothing but which leases there are and what runs log.
revoke all on all tables in schema scheduler from scheduler_worker;
revoke all on all sequences in schema scheduler from scheduler_worker;
revoke all on all functions in schema scheduler from scheduler_worker;
grant usage on schema scheduler to scheduler_worker;
grant select on scheduler.migration to scheduler_worker;
grant select (app, id, worker) on scheduler.lease to scheduler_worker;
grant select (app, lease, worker, revoked_at) on scheduler.pulse to scheduler_worker;
grant insert on scheduler.log to scheduler_worker;
grant execute on function
    scheduler.clock(),
    scheduler.register_worker(text, text, integer, text[], text[], text[], integer, text),
    scheduler.heartbeat(bigint, double precision), scheduler.retire_worker(bigint),
    scheduler.next_due(text[], text[], text[], text[], text[]),
    scheduler.await_hints(text[], text[]), scheduler.decline_hints(),
    scheduler.hint_bucket(text), scheduler.hint_key(text, text),
    scheduler.claim(
        text, bigint, text, integer, text[], interval, boolean, smallint, timestamptz, bigint, boolean
    ),
    scheduler.begin(text, bigint, bigint),
    scheduler.finish(
        text, bigint, bigint, bigint[], text[], jsonb[], text[], timestamptz[], timestamptz[], interval[], smallint[]
    ),
    scheduler.release(text, bigint, bigint, bigint[]),
    scheduler.leases_of(bigint), scheduler.pulses_of(bigint), scheduler.lost_leases(text, bigint[]),
    scheduler.append_log(text, bigint[], smallint[], integer[], timestamptz[], text[], text[]),
    scheduler.take_pulses(bigint, text[], text[], text[], integer, double precision),
    scheduler.report_pulses(text, bigint, jsonb), scheduler.release_pulses(text, bigint, bigint[], boolean)
    to scheduler_worker;

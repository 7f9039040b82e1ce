create or replace function scheduler.trigger(app text, job text, spec jsonb default null) returns bigint
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    -- Runs a job now, whatever its schedule, its pause and its overlap policy say, with an optional spec laid over the
    -- job's (see merge_spec). Returns the run's id. The ledger of instants is not touched: this was nobody's instant. The
    -- audit keeps who said so, which is why this runs with the owner's rights: nobody else writes there.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(trigger.app);
    end if;
    insert into scheduler.run as r (
        app, queue, executor, spec, run_at, priority, max_attempts, timeout, retry_delay, retry_max_delay, job, tags,
        concurrency_key, concurrency_limit
    )
    select j.app, j.queue, j.executor, scheduler.merge_spec(j.executor, j.spec, trigger.spec), scheduler.clock(),
        j.priority, j.max_attempts, j.timeout, j.retry_delay, j.retry_max_delay, j.name, nullif(j.tags, '{}'),
        j.concurrency_key, j.concurrency_limit
    from scheduler.job j
    where j.app = trigger.app and j.name = trigger.job
    returning r.id into v_id;
    if not found then
        raise exception 'there is no job "%" in app "%"', trigger.job, trigger.app using errcode = 'JS002';
    end if;
    perform scheduler.record(
        trigger.app, 'trigger', 'job ' || trigger.job, null, case
            when trigger.spec is null then json_build_object('run', v_id)
            else json_build_object('run', v_id, 'spec', scheduler.masked(trigger.spec, gen_random_uuid()::text))
        end
    );
    return v_id;
end
$$;
comment on function scheduler.trigger(text, text, jsonb) is 'Runs a job now; returns the run''s id.';

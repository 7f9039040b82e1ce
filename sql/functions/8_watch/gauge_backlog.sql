create or replace function scheduler.gauge_backlog(
    p_app text, p_queue text, p_limit integer, p_keyed boolean, p_key text default '', p_priority smallint default -32768,
    p_executor text default '', p_run_at timestamptz default '-infinity', p_id bigint default 0,
    out runs bigint, out key text, out priority smallint, out executor text, out run_at timestamptz, out id bigint
)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
begin
    -- Counts the runs of one queue, those with a concurrency key or those without, a slice of p_limit at a time, behind a
    -- place. Returns how many these were and the place of the last; id null: there are no more. Ten million are a hundred
    -- slices of some ten milliseconds, read from the index alone where the table was vacuumed; one count of all would be
    -- a statement of seconds, and a snapshot held as long.
    if p_keyed then
        select r.concurrency_key, r.priority, r.executor, r.run_at, r.id into key, priority, executor, run_at, id
        from scheduler.run r
        where r.app = p_app and r.queue = p_queue and r.concurrency_key is not null
            and (r.concurrency_key, r.priority, r.executor, r.run_at, r.id) > (p_key, p_priority, p_executor, p_run_at, p_id)
        order by r.concurrency_key, r.priority, r.executor, r.run_at, r.id
        offset p_limit - 1 limit 1;
        if found then
            runs := p_limit;
        else
            select count(*) into runs from scheduler.run r
            where r.app = p_app and r.queue = p_queue and r.concurrency_key is not null
                and (r.concurrency_key, r.priority, r.executor, r.run_at, r.id)
                    > (p_key, p_priority, p_executor, p_run_at, p_id);
        end if;
        return;
    end if;
    select r.priority, r.executor, r.run_at, r.id into priority, executor, run_at, id
    from scheduler.run r
    where r.app = p_app and r.queue = p_queue and r.concurrency_key is null
        and (r.priority, r.executor, r.run_at, r.id) > (p_priority, p_executor, p_run_at, p_id)
    order by r.priority, r.executor, r.run_at, r.id
    offset p_limit - 1 limit 1;
    if found then
        runs := p_limit;
    else
        select count(*) into runs from scheduler.run r
        where r.app = p_app and r.queue = p_queue and r.concurrency_key is null
            and (r.priority, r.executor, r.run_at, r.id) > (p_priority, p_executor, p_run_at, p_id);
    end if;
end
$$;
comment on function scheduler.gauge_backlog(
    text, text, integer, boolean, text, smallint, text, timestamptz, bigint
) is 'Counts the runs of a queue, a slice at a time.';

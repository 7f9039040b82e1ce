create or replace function scheduler.alarm_events(p_app text, p_after timestamptz, p_limit integer)
returns table (at timestamptz, job text, run_id bigint, error text, instants bigint, kinds text[])
language sql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
    -- What happened in an app after an instant that an alarm may be about, the earliest p_limit of failures and of missed
    -- fires: when, of which job and run, and for which kinds of alarm it counts. Two indexes hold nothing else.
    (
        select h.finished_at, h.job, h.id, h.error, 1::bigint,
            array_remove(array[
                'failing',
                case when h.outcome = 'failed' and h.retry_at is null then 'failed' end,
                case when h.outcome = 'failed' and h.retry_at is null and starts_with(h.error, 'poison: ') then 'poison' end
            ], null)
        from scheduler.history h
        where h.app = p_app and h.outcome in ('failed', 'lost') and h.finished_at > p_after
        order by h.finished_at limit p_limit
    )
    union all
    (
        select f.decided_at, f.job, f.run_id, f.reason, coalesce(f.instants, 1)::bigint, array['missed']
        from scheduler.fire f
        where f.app = p_app and f.outcome = 'missed' and f.decided_at > p_after
        order by f.decided_at limit p_limit
    )
$$;
comment on function scheduler.alarm_events(text, timestamptz, integer) is 'What happened that an alarm may be about.';

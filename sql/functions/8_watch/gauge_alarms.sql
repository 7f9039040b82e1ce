create or replace function scheduler.gauge_alarms(p_limit integer) returns table (app text, firing bigint)
language sql stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
    -- How many alarms fire, of up to p_limit alarms, by app; of an app without alarms nothing.
    select a.app, count(s.since_at)
    from (select d.app, d.name from scheduler.alarm d order by d.app, d.name limit p_limit) a
    left join scheduler.alarm_state s on s.app = a.app and s.alarm = a.name
    group by a.app
    order by a.app
$$;
comment on function scheduler.gauge_alarms(integer) is 'How many alarms of each app fire.';

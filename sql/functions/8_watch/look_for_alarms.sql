create or replace function scheduler.look_for_alarms(p_every interval, p_settle interval, p_limit integer default 20)
returns table (app text, alarms integer, firing integer)
language plpgsql
-- By key whatever the statistics say: they are of tables that were empty when they were made, or of none.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_page   constant integer := 10000;
    v_now    timestamptz := scheduler.clock();
    v_look   scheduler.alarm_look%rowtype;
    v_alarm  scheduler.alarm%rowtype;
    v_state  scheduler.alarm_state%rowtype;
    v_steady timestamptz;
    v_events jsonb;
    v_until  timestamptz;
    v_found  record;
begin
    -- Looks whether alarms fire, of up to p_limit apps at which nobody has looked for p_every; one row for each. Any server
    -- may call it, several at once: an app is looked at by whoever locks its row, and who comes second passes it over.
    -- States, notices and how far was looked are written in one transaction, so a crash repeats a look or undoes it whole.
    --
    -- An attempt's end is the worker's word, and may be reported late: so what happened in the last p_settle is counted anew
    -- by each look, and only then passed. A gap between looks may have been the database's, in which no worker could report
    -- either: after one longer than half of p_settle nothing is passed for as long as p_settle. Further gaps in that time do not
    -- make it longer, or an app whose looks are always late would never get on.
    for v_look in
        select l.* from scheduler.alarm_look l
        where l.looked_at <= v_now - p_every
            and exists (select from scheduler.alarm a where a.app = l.app)
        order by l.looked_at, l.app limit p_limit
        for update of l skip locked
    loop
        app := v_look.app;
        alarms := 0;
        firing := 0;
        v_steady := case
            when v_look.looked_at < v_now - greatest(p_settle / 2, 2 * p_every)
                and v_look.steady_at <= greatest(v_look.looked_at, v_look.cursor_at) - p_settle then v_now
            else v_look.steady_at
        end;
        v_events := null;
        v_until := v_look.cursor_at;
        if exists (
            select from scheduler.alarm a where a.app = v_look.app and a.kind in ('failed', 'failing', 'poison', 'missed')
        ) then
            -- A page that is full ends in the middle of an instant, which is left for the next look.
            with found as materialized (
                select e.*, e.kinds = array['missed'] as is_missed
                from scheduler.alarm_events(v_look.app, v_look.cursor_at, v_page) e
            ), page as (
                select max(f.at) as last_at from found f group by f.is_missed having count(*) = v_page
            )
            select jsonb_agg(
                jsonb_build_object(
                    'at', f.at, 'job', f.job, 'run', f.run_id, 'error', left(f.error, 500), 'instants', f.instants,
                    'kinds', f.kinds
                ) order by f.at
            ), (select min(p.last_at) from page p)
            into v_events, v_until from found f;
            v_until := case
                when v_steady > v_now - p_settle then v_look.cursor_at
                else least(v_now - p_settle, case
                    when v_until - interval '1 microsecond' > v_look.cursor_at then v_until - interval '1 microsecond'
                    else v_until
                end)
            end;
            v_until := greatest(v_until, v_look.cursor_at);
        else
            v_until := greatest(v_now - p_settle, v_look.cursor_at);
        end if;
        for v_alarm in
            select a.* from scheduler.alarm a where a.app = v_look.app order by a.name
        loop
            select s.* into v_state from scheduler.alarm_state s where s.app = v_alarm.app and s.alarm = v_alarm.name;
            if not found then
                v_state := row(v_alarm.app, v_alarm.name, null, null, null, 0, '{}', null, null, '{}', '');
            end if;
            select coalesce(array_agg(e.at order by e.at), '{}') as at,
                coalesce((count(*) filter (where e.at <= v_until))::integer, 0) as settled,
                jsonb_build_object(
                    'latest', (array_agg(e.event - 'kinds' - 'instants' order by e.at desc))[1],
                    'at_least', jsonb_array_length(coalesce(v_events, '[]')) >= v_page,
                    'most', (
                        select jsonb_agg(jsonb_build_object('job', m.job, 'count', m.count) order by m.count desc, m.job)
                        from (
                            select o.value ->> 'job' as job, count(*) from jsonb_array_elements(v_events) o
                            where o.value -> 'kinds' ? v_alarm.kind and (o.value ->> 'at')::timestamptz > v_alarm.created_at
                                and (v_alarm.job is null or o.value ->> 'job' = v_alarm.job)
                            group by 1 order by 2 desc, 1 limit 5
                        ) m
                    )
                ) as about
            into v_found
            from (
                select (o.value ->> 'at')::timestamptz as at, o.value as event
                from jsonb_array_elements(v_events) o
                cross join generate_series(1, least((o.value ->> 'instants')::bigint, 1000))
                where o.value -> 'kinds' ? v_alarm.kind
                    and (v_alarm.job is null or o.value ->> 'job' = v_alarm.job)
            ) e
            where e.at > v_alarm.created_at;
            v_state := scheduler.judge_alarm(v_alarm, v_state, v_now, v_found.at, v_found.settled, v_found.about);
            insert into scheduler.alarm_state as s values (v_state.*)
            on conflict on constraint alarm_state_pkey do update set
                since_at = excluded.since_at, told_at = excluded.told_at, last_told_at = excluded.last_told_at,
                hits = excluded.hits, recent = excluded.recent, latest = excluded.latest, most = excluded.most,
                subjects = excluded.subjects, place = excluded.place
            where s.* is distinct from excluded.*;
            alarms := alarms + 1;
            firing := firing + (v_state.since_at is not null)::integer;
        end loop;
        update scheduler.alarm_look l set looked_at = v_now, steady_at = v_steady, cursor_at = v_until
        where l.app = v_look.app;
        return next;
    end loop;
end
$$;
comment on function scheduler.look_for_alarms(interval, interval, integer) is 'Looks whether alarms fire, and writes their notices.';

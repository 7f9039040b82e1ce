create or replace function scheduler.judge_alarm(
    p_alarm scheduler.alarm, p_state scheduler.alarm_state, p_now timestamptz, p_at timestamptz[], p_settled integer,
    p_about jsonb
) returns scheduler.alarm_state
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_limit constant integer := 200;
    v_from  timestamptz := p_now - p_alarm.within;
    v_known integer := 0;
    v_all   timestamptz[];
    v_found record;
    v_fires boolean;
    v_more  bigint := 0;
    v_facts jsonb;
begin
    -- The state of an alarm after a look, whose notices are written on the way. Of what happens, p_at says when, in its order;
    -- the first p_settled are settled, and are not told again; p_about holds latest, most and at_least of them.
    --
    --   well ── it fires ──▶ firing ── told once gathered ──▶ told ── no more, for `within` ──▶ well, with a notice
    --                            (never before `pause`)         └── told again after each `repeat`
    --
    -- What fires is told, even if it is over by then: nothing is dropped because it was short, but what is silenced.
    if p_alarm.kind in ('failed', 'failing', 'poison', 'missed') then
        -- What is not settled is counted anew by each look, so a row that is committed late is counted, and none twice.
        v_more := cardinality(p_at) - p_settled;
        v_known := cardinality(p_state.recent);
        v_all := p_state.recent || p_at;
        if p_state.since_at is null then
            -- By when it happened: no server may have been there to see it.
            select min(w.first_at) into p_state.since_at
            from (
                select e.at, e.place, lag(e.at, p_alarm.times - 1) over (order by e.at, e.place) as first_at
                from unnest(v_all) with ordinality e (at, place)
            ) w
            where w.place > v_known and w.at - w.first_at <= p_alarm.within;
            v_fires := p_state.since_at is not null;
            p_state.hits := case
                when v_fires then (select count(*) from unnest(p_state.recent) e (at) where e.at >= p_state.since_at)
                else 0
            end;
        else
            v_fires := v_more > 0
                or (select count(*) from unnest(v_all) e (at) where e.at > v_from) >= p_alarm.times;
        end if;
        p_state.recent := array(
            select w.at from (
                select e.at from unnest(p_state.recent || p_at[:p_settled]) e (at) order by e.at desc limit p_alarm.times
            ) w
            order by w.at
        );
        if p_state.since_at is not null then
            p_state.hits := p_state.hits + p_settled;
            p_state.latest := coalesce(nullif(p_about -> 'latest', 'null'), p_state.latest);
            p_state.most := coalesce(nullif(p_about -> 'most', 'null'), p_state.most);
        end if;
    elsif p_alarm.kind = 'no_success' then
        select coalesce(array_agg(s.job) filter (where s.is_silent), '{}') as silent, count(*) as seen, max(s.job) as last
        into v_found
        from scheduler.silent_jobs(p_alarm.app, p_alarm.job, p_state.place, v_from, v_limit) s;
        -- Jobs that were not in this page stay as they were found; behind the last page begins the first.
        p_state.subjects := array(
            select o.job from unnest(p_state.subjects) o (job)
            where p_alarm.job is null and (o.job <= p_state.place or v_found.seen = v_limit and o.job > v_found.last)
            union
            select n.job from unnest(v_found.silent) n (job)
            order by 1 limit 1000
        );
        p_state.place := case when v_found.seen = v_limit then v_found.last else '' end;
        v_fires := p_state.subjects <> '{}';
        if v_fires then
            p_state.hits := cardinality(p_state.subjects);
            p_state.latest := jsonb_build_object('job', p_state.subjects[1], 'run', (
                select h.id from scheduler.history h
                where h.app = p_alarm.app and h.job = p_state.subjects[1] order by h.id desc limit 1
            ));
            p_state.most := to_jsonb(p_state.subjects[1:5]);
        end if;
    else
        if p_alarm.job is not null then
            select count(*) as found,
                (array_agg(jsonb_build_object('run', r.id, 'job', r.job, 'at', r.run_at) order by r.run_at))[1] as latest,
                null::jsonb as most
            into v_found
            from (
                select r.id, r.job, r.run_at from scheduler.run r
                where r.app = p_alarm.app and r.job = p_alarm.job and r.scheduled_at < v_from
                order by r.app, r.job, r.scheduled_at limit 1000
            ) r
            where r.run_at < v_from and r.run_at > '-infinity'
                and (select a.paused_at from scheduler.app a where a.app = p_alarm.app) is null;
        else
            select count(*) as found,
                (array_agg(
                    jsonb_build_object('run', d.run_id, 'job', d.job, 'queue', d.queue, 'executor', d.executor, 'at', d.run_at)
                    order by d.run_at
                ))[1] as latest,
                jsonb_agg(distinct d.executor || ' in queue ' || d.queue) as most
            into v_found
            from scheduler.oldest_due(p_alarm.app, v_from) d
            where p_alarm.kind = 'late' or not exists (
                select from scheduler.worker w
                where w.dead_at is null and w.stopped_at is null and (w.apps is null or p_alarm.app = any (w.apps))
                    and (w.queues is null or d.queue = any (w.queues)) and d.executor = any (w.executors)
            );
        end if;
        v_fires := v_found.found > 0;
        if v_fires then
            p_state.hits := v_found.found;
            p_state.latest := v_found.latest;
            p_state.most := v_found.most;
        end if;
    end if;

    if v_fires then
        p_state.since_at := coalesce(p_state.since_at, p_now);
    elsif p_state.since_at is null then
        return p_state;
    end if;
    v_facts := jsonb_build_object(
        'since_at', p_state.since_at, 'count', p_state.hits + v_more, 'at_least', coalesce(p_about -> 'at_least', 'false'),
        'latest', p_state.latest, 'most', p_state.most
    );
    if p_alarm.silence_ends_at > p_now then
        null;  -- it is told afterwards, if it still fires
    elsif p_state.told_at is null then
        if p_now >= p_state.since_at + p_alarm.gather and p_now >= coalesce(p_state.last_told_at + p_alarm.pause, p_now) then
            perform scheduler.write_notices(p_alarm, 'firing', v_facts);
            p_state.told_at := p_now;
            p_state.last_told_at := p_now;
            return p_state;  -- also what is over already is over with the next look: two notices, in their order
        elsif not v_fires then
            return p_state;
        end if;
    elsif v_fires and p_now >= p_state.last_told_at + p_alarm.repeat then
        perform scheduler.write_notices(p_alarm, 'again', v_facts);
        p_state.last_told_at := p_now;
    end if;
    if not v_fires then
        if p_state.told_at is not null and coalesce(p_alarm.silence_ends_at <= p_now, true) then
            perform scheduler.write_notices(p_alarm, 'resolved', v_facts);
        end if;
        p_state.since_at := null;
        p_state.told_at := null;
        p_state.hits := 0;
        p_state.latest := null;
        p_state.most := null;
    end if;
    return p_state;
end
$$;
comment on function scheduler.judge_alarm(scheduler.alarm, scheduler.alarm_state, timestamptz, timestamptz[], integer, jsonb) is
    'The state of an alarm after a look; writes its notices.';

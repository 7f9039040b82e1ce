create or replace function scheduler.write_notices(p_alarm scheduler.alarm, p_state text, p_facts jsonb) returns bigint[]
language plpgsql as $$
declare
    v_ids    bigint[];
    v_notice jsonb;
begin
    -- Writes the notice of an alarm as a run for each of its channels, in the app _alarms; their ids. p_state: firing, again,
    -- resolved or test. Twenty attempts, for four hours or so; what retries, is lost with a worker or is looked up afterwards,
    -- is the runs' own. What others wrote, such as an error, may not name a secret that the executor would then put in.
    v_notice := replace((jsonb_build_object(
        'app', p_alarm.app, 'alarm', p_alarm.name, 'kind', p_alarm.kind, 'job', p_alarm.job, 'times', p_alarm.times,
        'within', extract(epoch from p_alarm.within)::float8, 'state', p_state, 'at', scheduler.clock()
    ) || p_facts)::text, '${secret:', '${ secret:')::jsonb;
    with written as (
        insert into scheduler.run (app, queue, executor, spec, max_attempts, timeout, retry_delay, retry_max_delay, tags)
        select '_alarms', 'default', 'alarm', jsonb_build_object('channel', c.channel, 'notice', v_notice), 20,
            '1 minute', '2 seconds', '30 minutes', array[p_alarm.app, left(p_alarm.name, 100)]
        from jsonb_array_elements(p_alarm.channels) with ordinality c (channel, place)
        order by c.place
        returning id
    )
    select array_agg(w.id) into v_ids from written w;
    return v_ids;
end
$$;
comment on function scheduler.write_notices(scheduler.alarm, text, jsonb) is 'Writes the notice of an alarm, a run for each channel.';

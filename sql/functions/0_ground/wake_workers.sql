create or replace function scheduler.wake_workers() returns trigger
language plpgsql as $$
declare
    v_app        text;
    v_queue      text;
    v_last_app   text;
    v_last_queue text;
begin
    -- Hints to those who await them and listen on scheduler_run: one per (app, queue) and transaction, payload app, tab,
    -- queue. Rows that start later than the poll floor and the horizon together are found by polling in good time.
    --
    -- A NOTIFY takes a database-wide lock at commit: from 64 clients, 3,550 inserts/s with one in each transaction, of
    -- 24,700 without. So none is sent when nobody awaits it: a worker that finds work at every look declines hints
    -- and polls every 5 ms. A gate by a transaction's advisory lock, one notifier per queue at a time, reached 18,400,
    -- but the hint of a long transaction then came late for all others. A table of sleepers costs two commits and a
    -- dead row per nap.
    --
    -- As little as possible is done here. Microseconds of the backend's CPU for each one-row insert (55 / 46 without any
    -- trigger) on PostgreSQL 15 / 18: the transition table and a first look that finds nobody 7 / 9; besides, when
    -- somebody awaits anything, the loop over the rows and four looks 15 / 11; `select distinct` instead of it 22 / 18.
    if not scheduler.are_hints_awaited(0) then
        return null;
    end if;
    for v_app, v_queue in
        select i.app, i.queue from inserted i where i.run_at <= scheduler.clock() + interval '2 seconds'
    loop
        continue when v_app = v_last_app and v_queue = v_last_queue;
        v_last_app := v_app;
        v_last_queue := v_queue;
        if scheduler.are_hints_awaited(scheduler.hint_key('', ''))
            or scheduler.are_hints_awaited(scheduler.hint_key(v_app, ''))
            or scheduler.are_hints_awaited(scheduler.hint_key(v_app, v_queue))
            or scheduler.are_hints_awaited(scheduler.hint_key('', v_queue))
        then
            perform pg_notify('scheduler_run', v_app || E'\t' || v_queue);
        end if;
    end loop;
    return null;
end
$$;
comment on function scheduler.wake_workers() is 'Trigger: tells those who await hints that something may be due.';

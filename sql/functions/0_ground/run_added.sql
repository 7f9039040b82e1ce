create or replace function scheduler.run_added() returns trigger
language plpgsql as $$
declare
    v_topic text;
begin
    -- Takes the run's unique key, or fails the insert with unique_violation when another pending or running run has it;
    -- then tells those who await hints and listen on scheduler_run that something may be due: payload app, tab, queue, once
    -- per transaction for rows of one queue in a row. Rows that start later than the poll floor and the horizon
    -- together are found by polling in good time.
    --
    -- One trigger for both, for each row, and as little as possible in it. Microseconds of a one-row insert, of 60, on
    -- PostgreSQL 18: calling any function 5, the first look 3, a key that is null 1. It replaces a trigger with
    -- `when (new.unique_key is not null)` (3, as every statement parses the condition anew) and one per statement with
    -- a transition table (10; 35 while somebody awaited hints of another app). Each expression is set up anew in each
    -- transaction, at 0.3 us a function call in it, so what is rarely asked has expressions of its own. COPY pays for
    -- each of its rows: it reaches 0.81 to 0.89 of a bare table's, where the transition table reached 0.92.
    if new.unique_key is not null then
        -- The key outlives the row of run: a claimed run still holds it, so a retry that comes back finds its own.
        insert into scheduler.run_key (app, unique_key, run_id) values (new.app, new.unique_key, new.id)
        on conflict (app, unique_key) do nothing;
        if not found then
            perform from scheduler.run_key k
            where k.app = new.app and k.unique_key = new.unique_key and k.run_id = new.id;
            if not found then
                raise unique_violation using
                    message = format(
                        'app "%s" has a pending or running run with unique_key "%s"', new.app, new.unique_key
                    ),
                    hint = 'scheduler.enqueue() returns the id of the run that is there instead of failing.',
                    schema = 'scheduler', table = 'run', constraint = 'run_unique_key';
            end if;
        end if;
    end if;
    -- A NOTIFY takes a database-wide lock at commit: from 64 clients, 3,550 inserts/s with one in each transaction, of
    -- 24,700 without. So none is sent when nobody awaits it: a worker that finds work at every look declines hints
    -- and polls every 5 ms. A gate by a transaction's advisory lock, one notifier per queue at a time, reached 18,400,
    -- but the hint of a long transaction then came late for all others. A table of sleepers costs two commits and a
    -- dead row per nap.
    if not scheduler.are_hints_awaited(scheduler.hint_bucket(new.app)) then
        return null;
    end if;
    if not scheduler.are_hints_awaited(scheduler.hint_key(new.app))
        and not scheduler.are_hints_awaited(scheduler.hint_key(''))
    then
        return null;
    end if;
    -- What this transaction has told already is in a setting of its own, which a rollback to a savepoint takes back
    -- together with the hint.
    v_topic := new.app || E'\t' || new.queue;
    if v_topic = current_setting('scheduler.told', true) or new.run_at > scheduler.clock() + interval '2 seconds' then
        return null;
    end if;
    for look in 1 .. 2 loop  -- two that look at the same instant see each other
        if not (
            scheduler.are_hints_awaited(scheduler.hint_key(new.app, ''))
            or scheduler.are_hints_awaited(scheduler.hint_key(new.app, new.queue))
            or scheduler.are_hints_awaited(scheduler.hint_key('', ''))
            or scheduler.are_hints_awaited(scheduler.hint_key('', new.queue))
        ) then
            return null;
        end if;
    end loop;
    perform pg_notify('scheduler_run', v_topic), set_config('scheduler.told', v_topic, true);
    return null;
end
$$;
comment on function scheduler.run_added() is 'Trigger: takes the unique key of a new run, and tells those who await it.';

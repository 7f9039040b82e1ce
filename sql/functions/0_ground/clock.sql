create or replace function scheduler.clock() returns timestamptz
language sql stable parallel safe as $$
    -- The only reading of time in SQL. Tests fake it with the setting scheduler.fake_clock.
    -- Stable, the start of the statement: a function that asks twice gets one answer, an index can use it, and a
    -- column default made of it does not forbid COPY its batches. A statement that waited for a lock then works with
    -- the earlier time, which errs to the safe side: it sees less that is due, and fewer that are dead.
    select coalesce(nullif(current_setting('scheduler.fake_clock', true), '')::timestamptz, statement_timestamp())
$$;
comment on function scheduler.clock() is 'The time that decides what is due, late or dead.';

-- The migrations run before there is a clock, so the defaults are tied to it here.
alter table scheduler.run alter column run_at set default scheduler.clock();
alter table scheduler.job alter column created_at set default scheduler.clock();
alter table scheduler.job alter column updated_at set default scheduler.clock();
alter table scheduler.alarm alter column created_at set default scheduler.clock();

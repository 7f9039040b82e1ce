create or replace function scheduler.release_waiting() returns integer
language plpgsql as $$
declare
    v_count integer;
begin
    -- Lets the oldest waiting run of each job (overlap queue or replace) start, once no other run of the job is pending
    -- or running. The rare update in place: one row per instant that had to wait. Returns how many were let go.
    update scheduler.run r set run_at = scheduler.clock()
    from (
        select distinct on (w.app, w.job) w.app, w.id
        from scheduler.run w
        where w.run_at = 'infinity' and w.job is not null
            and not exists (
                select from scheduler.run o where o.app = w.app and o.job = w.job and o.run_at < 'infinity'
            )
            and not exists (
                select from scheduler.lease l cross join lateral unnest(l.runs) o
                where l.app = w.app and w.job = any (l.jobs) and o.job = w.job and o.id <> all (coalesce(l.done, '{}'))
            )
        order by w.app, w.job, w.scheduled_at
    ) next
    where r.app = next.app and r.id = next.id and r.run_at = 'infinity';
    get diagnostics v_count = row_count;
    if v_count > 0 then
        perform pg_notify('scheduler_run', '');
    end if;
    return v_count;
end
$$;
comment on function scheduler.release_waiting() is 'Lets runs start that waited for their job''s previous run.';

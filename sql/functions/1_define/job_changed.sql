create or replace function scheduler.job_changed() returns trigger
language plpgsql
-- With statistics from when there were few jobs, the ledger of a day was read for one instant.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_now timestamptz := scheduler.clock();
    v_schedule scheduler.job_schedule%rowtype;
    v_timing boolean;
    v_awaited timestamptz;
begin
    -- Keeps job_schedule in step with job, whoever writes job and however: an edit, a pause or a removal reaches what
    -- was already planned, and wakes the planner. The schedule itself is understood later, by the planner, so that a
    -- bad one that came by plain SQL is reported on its own row and stops nothing else.
    -- The payload tells it from the end of a run, which only concerns a planner that waits for one.
    perform pg_notify('scheduler_job', 'defined');
    if tg_op = 'INSERT' then
        insert into scheduler.job_schedule (app, job, next_at, after_at, anchor_at)
        values (
            new.app, new.name, case when new.schedule is not null and new.paused_at is null then '-infinity'::timestamptz end,
            v_now, coalesce(new.starts_at, v_now)
        );
        return null;
    end if;
    if tg_op = 'DELETE' then
        perform from scheduler.job_schedule s where s.app = old.app and s.job = old.name for update;
        perform scheduler.withdraw(old.app, old.name, 'removed', true);
        perform scheduler.revoke_pulse(old.app, old.name);
        return old;
    end if;
    if (new.app, new.name) is distinct from (old.app, old.name) then
        raise exception 'job "%" of app "%" cannot be renamed or moved', old.name, old.app using
            errcode = 'JS001', hint = 'Add a job with the new name and remove the old one; the ledger stays with the old name.';
    end if;
    if to_jsonb(new) - 'updated_at' = to_jsonb(old) - 'updated_at' then
        return null;
    end if;
    select * into v_schedule from scheduler.job_schedule s where s.app = new.app and s.job = new.name for update;
    select f.scheduled_at into v_awaited from scheduler.fire f
    where f.app = new.app and f.job = new.name and f.scheduled_at > v_now and f.run_id = v_schedule.awaits;
    perform scheduler.withdraw(
        new.app, new.name, case when new.paused_at is null then 'edited' else 'paused' end, new.paused_at is not null
    );
    perform scheduler.revoke_pulse(new.app, new.name);
    -- Of @after: set when the run that it awaited was taken back. It keeps its instant.
    if exists (select from scheduler.fire f where f.app = new.app and f.job = new.name and f.scheduled_at = v_awaited) then
        v_awaited := null;
    end if;
    v_timing := (new.schedule, new.timezone, new.starts_at, new.ends_at, new.dst_gap, new.dst_fold, new.paused_at)
        is distinct from (old.schedule, old.timezone, old.starts_at, old.ends_at, old.dst_gap, old.dst_fold, old.paused_at);
    update scheduler.job_schedule s set
        revision = s.revision + 1,
        next_at = case
            when new.schedule is null or new.paused_at is not null then null
            when v_timing then '-infinity'
            when v_awaited is not null then v_awaited
            when s.awaits is null then '-infinity'::timestamptz
        end,
        -- Only new timing starts afresh. An edit of anything else keeps instants that are due and not yet decided.
        after_at = case
            when not v_timing and isfinite(v_schedule.next_at) then least(v_now, v_schedule.next_at - interval '1 microsecond')
            when not v_timing and v_schedule.next_at is not null then least(v_now, v_schedule.after_at)
            else v_now
        end,
        anchor_at = case
            when new.schedule is distinct from old.schedule or new.starts_at is distinct from old.starts_at
                then coalesce(new.starts_at, v_now)
            else s.anchor_at
        end,
        delay = case when v_timing then null else s.delay end,
        awaits = case when v_timing or v_awaited is not null then null else s.awaits end,
        deferred_at = null,
        error = null
    where s.app = new.app and s.job = new.name;
    return null;
end
$$;
comment on function scheduler.job_changed() is 'Trigger: an edit, pause or removal reaches what was already planned.';

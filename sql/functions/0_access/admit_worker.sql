create or replace function scheduler.admit_worker(p_worker bigint) returns void
language plpgsql stable as $$
declare
    v_apps text[] := scheduler.apps_allowed();
begin
    -- Fails unless whoever asks may speak for the worker: a role that is restricted to some apps only for those that were
    -- registered for no others. What it says is what one hears of a worker that is not there. Called with the rights of
    -- the owner.
    if v_apps is not null
        and not exists (select from scheduler.worker w where w.id = p_worker and w.apps <@ v_apps)
    then
        raise exception 'worker % is not registered, has stopped or was declared dead', p_worker using errcode = 'JS004';
    end if;
end
$$;
comment on function scheduler.admit_worker(bigint) is 'Fails unless the role in use may speak for the worker.';

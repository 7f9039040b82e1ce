create or replace function scheduler.cancel(app text, id bigint) returns boolean
language plpgsql as $$
declare
    v_was text;
begin
    -- Cancels a run, because somebody says so, which the audit keeps. Pending: it ends as cancelled at once. Running: its
    -- worker is told to stop it, and it ends as cancelled unless it ends by itself first. False: there is no such run, or
    -- it has ended.
    v_was := scheduler.cancel_run(cancel.app, cancel.id);
    if v_was is null then
        return false;
    end if;
    perform scheduler.record(
        cancel.app, 'cancel', 'run ' || cancel.id, jsonb_build_object('state', v_was),
        jsonb_build_object('state', case v_was when 'pending' then 'cancelled' else 'running' end)
            || case v_was when 'running' then '{"cancel": "asked for"}'::jsonb else '{}' end
    );
    return true;
end
$$;
comment on function scheduler.cancel(text, bigint) is 'Cancels a pending or running run. False: there is none.';

create or replace function scheduler.cancel(app text, id bigint) returns boolean
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_was text;
begin
    -- Cancels a run, because somebody says so, which the audit keeps. Pending: it ends as cancelled at once. Running: its
    -- worker is told to stop it, and it ends as cancelled unless it ends by itself first. False: there is no such run, or
    -- it has ended.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(cancel.app);
    end if;
    v_was := scheduler.cancel_run(cancel.app, cancel.id);
    if v_was is null then
        return false;
    end if;
    perform scheduler.record(
        cancel.app, 'cancel', 'run ' || cancel.id, json_build_object('state', v_was),
        case v_was
            when 'pending' then '{"state": "cancelled"}'
            else '{"state": "running", "cancel": "asked for"}'
        end::json
    );
    return true;
end
$$;
comment on function scheduler.cancel(text, bigint) is 'Cancels a pending or running run. False: there is none.';

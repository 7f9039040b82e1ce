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

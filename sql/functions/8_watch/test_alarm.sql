create or replace function scheduler.test_alarm(p_app text, p_name text) returns bigint[]
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_alarm scheduler.alarm%rowtype;
begin
    -- Sends a notice that says that it is a test, over every channel of an alarm, whatever its state and its silence; the
    -- runs that carry it. They are of the app _alarms, which who may define alarms of an app need not reach.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(p_app);
    end if;
    select * into v_alarm from scheduler.alarm a where a.app = p_app and a.name = p_name;
    if not found then
        raise exception 'there is no alarm % in app %', p_name, p_app using errcode = 'JS002';
    end if;
    return scheduler.write_notices(v_alarm, 'test', '{}');
end
$$;
comment on function scheduler.test_alarm(text, text) is 'Sends a test notice over every channel of an alarm.';

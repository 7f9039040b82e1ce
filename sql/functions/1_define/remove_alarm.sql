create or replace function scheduler.remove_alarm(p_app text, p_name text) returns void
language plpgsql as $$
begin
    -- Deletes an alarm with its state. Notices that were written already are sent.
    delete from scheduler.alarm a where a.app = p_app and a.name = p_name;
    if not found then
        raise exception 'there is no alarm % in app %', p_name, p_app using errcode = 'JS002';
    end if;
end
$$;
comment on function scheduler.remove_alarm(text, text) is 'Deletes an alarm.';

create or replace function scheduler.silence_alarm(p_app text, p_name text, p_until timestamptz) returns void
language plpgsql as $$
begin
    -- No notices of an alarm until then; null: from now on again. What still fires then is told.
    update scheduler.alarm a set silence_ends_at = p_until where a.app = p_app and a.name = p_name;
    if not found then
        raise exception 'there is no alarm % in app %', p_name, p_app using errcode = 'JS002';
    end if;
end
$$;
comment on function scheduler.silence_alarm(text, text, timestamptz) is 'No notices of an alarm until then.';

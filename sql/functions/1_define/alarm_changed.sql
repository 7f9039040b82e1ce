create or replace function scheduler.alarm_changed() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
as $$
declare
    v_salt text := gen_random_uuid()::text;
    v_now  timestamptz := scheduler.clock();
    v_old  jsonb;
    v_new  jsonb;
begin
    -- Notes the change for the audit, without what looks like a secret. An app's first alarm is about what happens from now on:
    -- what was passed while it had none is not looked at. An alarm that asks something else than before starts anew.
    if tg_op <> 'INSERT' then
        v_old := (to_jsonb(old) - '{app,name,created_at}'::text[])
            || jsonb_build_object('channels', scheduler.masked(old.channels, v_salt));
    end if;
    if tg_op <> 'DELETE' then
        v_new := (to_jsonb(new) - '{app,name,created_at}'::text[])
            || jsonb_build_object('channels', scheduler.masked(new.channels, v_salt));
        insert into scheduler.alarm_look as l (app, looked_at, steady_at, cursor_at)
        values (new.app, '-infinity', v_now, v_now)
        on conflict on constraint alarm_look_pkey do update set cursor_at = excluded.cursor_at
        where not exists (
            select from scheduler.alarm a where a.app = l.app and a.name <> new.name
        ) and tg_op = 'INSERT';
    end if;
    if tg_op = 'UPDATE' and (old.app, old.name, old.kind, old.job, old.times, old.within)
        is distinct from (new.app, new.name, new.kind, new.job, new.times, new.within)
    then
        delete from scheduler.alarm_state s
        where (s.app, s.alarm) in ((old.app, old.name), (new.app, new.name));
    end if;
    if v_old is null or v_new is null or (old.app, old.name) is distinct from (new.app, new.name) then
        if v_old is not null then
            perform scheduler.record(old.app, 'remove', 'alarm ' || old.name, v_old::json, null);
        end if;
        if v_new is not null then
            perform scheduler.record(new.app, 'add', 'alarm ' || new.name, null, v_new::json);
        end if;
    elsif v_old <> v_new then
        perform scheduler.record(new.app, 'edit', 'alarm ' || new.name, v_old::json, v_new::json);
    end if;
    return null;
end
$$;
comment on function scheduler.alarm_changed() is 'Trigger: notes for the audit that an alarm was changed, and starts it anew.';

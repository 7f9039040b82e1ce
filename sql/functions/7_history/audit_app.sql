create or replace function scheduler.audit_app() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
    -- A row of app is a pause of the whole app; one that goes away, or under another name, ends it.
    if old.app is distinct from new.app then
        if old.paused_at is not null then
            perform scheduler.record(old.app, 'resume', 'app', json_build_object('paused_at', old.paused_at), '{"paused_at": null}');
        end if;
        if new.paused_at is not null then
            perform scheduler.record(new.app, 'pause', 'app', '{"paused_at": null}', json_build_object('paused_at', new.paused_at));
        end if;
    elsif old.paused_at is distinct from new.paused_at then
        perform scheduler.record(
            new.app, case when new.paused_at is null then 'resume' else 'pause' end, 'app',
            json_build_object('paused_at', old.paused_at), json_build_object('paused_at', new.paused_at)
        );
    end if;
    return null;
end
$$;
comment on function scheduler.audit_app() is 'Trigger: notes for the audit that an app was paused or resumed.';

create or replace function scheduler.isolate_apps() returns void
language plpgsql
set lock_timeout = '5s'
as $$
begin
    -- Switches row-level security on, once and for good: from then on a role sees and writes the rows of the apps that
    -- apps_allowed() gives it, which for most is all. A database without restricted roles does not have it on: it costs
    -- everybody but the owner that question in each statement, and their COPY into run is refused. It is not forced, so
    -- the owner, whose servers and workers do the work, is never asked. Only the owner can do it; takes a lock on each
    -- table for a moment.
    if (select c.relrowsecurity from pg_class c where c.oid = 'scheduler.run'::regclass) then
        return;
    end if;
    create policy own_apps on scheduler.app using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.job using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.job_schedule using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.fire using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.owner using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.run using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.lease using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.run_key using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.slot using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.queue_limit using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.history using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.log using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.pulse using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.audit using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.audit_head using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.audit_pending using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.event_lock using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.idempotency using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.alarm using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.alarm_state using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    create policy own_apps on scheduler.alarm_look using (coalesce(app = any ((select scheduler.apps_allowed())::text[]), true));
    -- Workers, tokens and roles may have several apps, and null means all. Everybody may know which servers there are.
    create policy own_apps on scheduler.worker using (
        coalesce(apps <@ (select scheduler.apps_allowed()), (select scheduler.apps_allowed()) is null)
    );
    create policy own_apps on scheduler.token using (
        coalesce(apps <@ (select scheduler.apps_allowed()), (select scheduler.apps_allowed()) is null)
    );
    create policy own_apps on scheduler.restriction using (
        coalesce(apps <@ (select scheduler.apps_allowed()), (select scheduler.apps_allowed()) is null)
    );
    create policy all_apps on scheduler.server using ((select scheduler.apps_allowed()) is null);
    create policy anybody on scheduler.server for select using (true);
    alter table scheduler.app enable row level security;
    alter table scheduler.job enable row level security;
    alter table scheduler.job_schedule enable row level security;
    alter table scheduler.fire enable row level security;
    alter table scheduler.owner enable row level security;
    alter table scheduler.run enable row level security;
    alter table scheduler.lease enable row level security;
    alter table scheduler.run_key enable row level security;
    alter table scheduler.slot enable row level security;
    alter table scheduler.queue_limit enable row level security;
    alter table scheduler.history enable row level security;
    alter table scheduler.log enable row level security;
    alter table scheduler.pulse enable row level security;
    alter table scheduler.event_lock enable row level security;
    alter table scheduler.idempotency enable row level security;
    alter table scheduler.alarm enable row level security;
    alter table scheduler.alarm_state enable row level security;
    alter table scheduler.alarm_look enable row level security;
    alter table scheduler.audit enable row level security;
    alter table scheduler.audit_pending enable row level security;
    alter table scheduler.audit_head enable row level security;
    alter table scheduler.worker enable row level security;
    alter table scheduler.token enable row level security;
    alter table scheduler.restriction enable row level security;
    alter table scheduler.server enable row level security;
end
$$;
comment on function scheduler.isolate_apps() is 'Switches row-level security by app on.';

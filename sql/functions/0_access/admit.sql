create or replace function scheduler.admit(p_app text) returns void
language plpgsql stable as $$
begin
    -- Fails unless whoever asks may reach the app, and says the same whether there is such an app or not. Functions that
    -- run with their owner's rights, to which row-level security does not apply, call it for everybody but the owner: the
    -- owner's claims and reports pay for one comparison.
    if p_app <> all (scheduler.apps_allowed()) then
        raise insufficient_privilege using message = format('app "%s" is not open to this role', p_app);
    end if;
end
$$;
comment on function scheduler.admit(text) is 'Fails unless the role in use may reach the app.';

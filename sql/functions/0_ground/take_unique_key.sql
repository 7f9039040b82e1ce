create or replace function scheduler.take_unique_key() returns trigger
language plpgsql as $$
begin
    -- Takes the run's unique key, or fails the insert with unique_violation when another pending or running run has it.
    -- The key outlives the row of run: a claimed run still holds it, so a retry that comes back finds its own.
    insert into scheduler.run_key (app, unique_key, run_id) values (new.app, new.unique_key, new.id)
    on conflict (app, unique_key) do nothing;
    if not found then
        perform from scheduler.run_key k
        where k.app = new.app and k.unique_key = new.unique_key and k.run_id = new.id;
        if not found then
            raise unique_violation using
                message = format('app "%s" has a pending or running run with unique_key "%s"', new.app, new.unique_key),
                hint = 'scheduler.enqueue() returns the id of the run that is there instead of failing.',
                schema = 'scheduler', table = 'run', constraint = 'run_unique_key';
        end if;
    end if;
    return null;
end
$$;
comment on function scheduler.take_unique_key() is 'Trigger: one pending or running run per (app, unique_key).';

create or replace function scheduler.remove_job(p_app text, p_job text) returns void
language plpgsql as $$
begin
    -- Removes a definition. What was planned and not started goes with it (the trigger sees to that); what runs goes on,
    -- and the ledger and the history stay.
    delete from scheduler.job j where j.app = p_app and j.name = p_job;
    if not found then
        raise exception 'there is no job "%" in app "%"', p_job, p_app using errcode = 'JS002';
    end if;
end
$$;
comment on function scheduler.remove_job(text, text) is 'Removes a definition and what was planned for it.';

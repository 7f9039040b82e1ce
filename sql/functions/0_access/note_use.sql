create or replace function scheduler.note_use(p_names text[]) returns integer
language plpgsql as $$
declare
    v_now   timestamptz := scheduler.clock();
    v_count integer;
begin
    -- Notes that tokens are in use, once a minute at most for each, so that no row is written by every request. A row that
    -- somebody else has locked is passed over: another server just notes the same. Returns how many were written.
    update scheduler.token t set last_used_at = v_now
    from (
        select o.id from scheduler.token o
        where o.name = any (p_names) and o.revoked_at is null
            and (o.last_used_at is null or o.last_used_at < v_now - interval '1 minute')
        for update skip locked
    ) u
    where t.id = u.id;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function scheduler.note_use(text[]) is 'Notes that tokens are in use, once a minute at most.';

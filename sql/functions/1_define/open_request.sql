create or replace function scheduler.open_request(p_app text, p_token text, p_key text)
returns table (digest bytea, status smallint, answer text)
language plpgsql as $$
#variable_conflict use_column
begin
    -- Takes an idempotency key for the transaction's request. No row: it is new, and close_request has to follow in the
    -- same transaction; a row: that was answered to the request which had it first. Waits for one that has it just now.
    loop
        insert into scheduler.idempotency as i (app, token, key, kept_at)
        values (p_app, p_token, p_key, scheduler.clock())
        on conflict on constraint idempotency_pkey do nothing;
        if found then
            return;
        end if;
        -- It may be forgotten between the two statements; then the key is free.
        return query
            select i.digest, i.status, i.answer from scheduler.idempotency i
            where i.app = p_app and i.token = p_token and i.key = p_key;
        if found then
            return;
        end if;
    end loop;
end
$$;
comment on function scheduler.open_request(text, text, text) is
    'Takes an idempotency key, or returns what was answered to the request that had it.';

create or replace function scheduler.close_request(
    p_app text, p_token text, p_key text, p_digest bytea, p_status integer, p_answer text
) returns void
language sql as $$
    -- Keeps what is answered to the request that took the key in this transaction.
    update scheduler.idempotency i set digest = p_digest, status = p_status, answer = p_answer
    where i.app = p_app and i.token = p_token and i.key = p_key
$$;
comment on function scheduler.close_request(text, text, text, bytea, integer, text) is
    'Keeps the answer to a request with an idempotency key.';

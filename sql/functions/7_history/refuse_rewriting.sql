create or replace function scheduler.refuse_rewriting() returns trigger
language plpgsql as $$
begin
    -- For everybody, the owner of the tables included. Who disables the trigger can do it, and is found by verify_audit,
    -- unless he computes the whole chain anew; that shows only beside a head that was kept elsewhere.
    raise exception 'the audit is append-only: % of scheduler.% is refused', lower(tg_op), tg_table_name using
        errcode = 'JS003', hint = 'Entries are kept for ever; `scheduler audit export` copies them.';
end
$$;
comment on function scheduler.refuse_rewriting() is 'Trigger: what the audit says stays as it is.';

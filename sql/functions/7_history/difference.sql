create or replace function scheduler.difference(p_old jsonb, p_new jsonb) returns jsonb
language sql immutable parallel safe as $$
    -- What of the second object is not so in the first; null when that is nothing. Keys that only the first has, and keys
    -- that are null in the second and missing in the first, do not count.
    select jsonb_object_agg(e.key, e.value)
    from jsonb_each(p_new) e
    where e.value is distinct from coalesce(p_old -> e.key, 'null')
$$;
comment on function scheduler.difference(jsonb, jsonb) is 'What of the second object is not so in the first.';

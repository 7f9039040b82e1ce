create or replace function scheduler.is_balanced(p_loads bigint[], p_average bigint) returns boolean
language sql immutable as $$
    -- Whether every load is within a fifth of the average. Below that apps stay where they are: weights go up and down by
    -- the minute, and an app that follows them would be on its way all the time.
    select coalesce(bool_and(l.load * 5 between p_average * 4 and p_average * 6), true) from unnest(p_loads) l (load)
$$;
comment on function scheduler.is_balanced(bigint[], bigint) is 'Whether no server has much more or less than the others.';

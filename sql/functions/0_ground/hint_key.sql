create or replace function scheduler.hint_key(p_app text, p_queue text default null) returns integer
language sql immutable parallel safe as $$
    -- The second number of the advisory lock (7716801, …) that sessions which await hints hold: one for the app, whatever
    -- the queue (null), and one for the queue. An empty text stands for every app, or every queue. Two that share a
    -- number cost a needless hint.
    select hashtext(p_app || coalesce(E'\t' || p_queue, ''))
$$;
comment on function scheduler.hint_key(text, text) is 'The advisory lock of those who await hints about a queue.';

create or replace function scheduler.backoff(p_attempt integer, p_delay interval, p_max_delay interval) returns interval
language sql volatile as $$
    -- How long to wait after attempt number p_attempt failed: the delay doubles with each attempt up to p_max_delay,
    -- and a random part of it is taken (full jitter), so that runs that failed together do not come back together.
    -- Compared in seconds, and ten years at most: an interval of 3 hours overflows when it is doubled 30 times, and the
    -- error would keep the whole batch of such a run from being finished.
    select interval '1 second' * random() * least(
        extract(epoch from coalesce(p_max_delay, interval '1 hour')),
        extract(epoch from coalesce(p_delay, interval '5 seconds')) * power(2, least(greatest(p_attempt, 1) - 1, 30)),
        10 * 365 * 86400
    )
$$;
comment on function scheduler.backoff(integer, interval, interval) is 'A jittered wait before the next attempt.';

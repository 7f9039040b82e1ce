create or replace function scheduler.pulses_of(p_worker bigint) returns table (app text, lease bigint, is_revoked boolean)
language sql stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
    -- The jobs that a worker fires. One that is revoked it lets go (release_pulses); one that is missing it does not
    -- hold any more, and stops; one that it does not know came with an answer that was lost, and is let go.
    select p.app, p.lease, p.revoked_at is not null from scheduler.pulse p where p.worker = p_worker
$$;
comment on function scheduler.pulses_of(bigint) is 'The jobs that a worker fires from its timer, for its own comparison.';

create or replace function scheduler.event_ttl(p_spec jsonb) returns interval
language sql stable as $$
    -- How long an event lives, from its spec's "ttl": a duration as Go writes it, each unit once, the longest first
    -- (1h30m10s, 1.5h, 300ms). Ten minutes when there is none, it is nothing, or cannot be read: one row that somebody
    -- wrote by hand must not fail the list of its channel.
    select case
        when p_spec ->> 'ttl' <> '' and p_spec ->> 'ttl' ~ (
            '^(\d{1,5}(\.\d{1,9})?d)?(\d{1,6}(\.\d{1,9})?h)?(\d{1,8}(\.\d{1,9})?m)?(\d{1,10}(\.\d{1,9})?s)?'
            || '(\d{1,9}(\.\d{1,9})?ms)?(\d{1,9}us)?$'
        ) then coalesce(nullif((p_spec ->> 'ttl')::interval, interval '0'), interval '10 minutes')
        else interval '10 minutes'
    end
$$;
comment on function scheduler.event_ttl(jsonb) is 'How long an event lives after its publication.';

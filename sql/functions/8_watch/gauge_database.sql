create or replace function scheduler.gauge_database(
    out snapshot_age double precision, out size bigint, out wal numeric, out notify_queue double precision,
    out connections bigint, out connections_most integer, out tables text[], out dead_rows bigint[]
)
language plpgsql stable
as $$
begin
    -- What PostgreSQL says of itself: for how many seconds the oldest transaction has held a snapshot or an id (of those
    -- in this database that the caller may look at; a prepared one counts), the size of this database, the position in the write-ahead log
    -- and the connections of the whole server, how full the queue of notifications is, and the dead rows of our tables,
    -- daily partitions added up. By the real time, and not scheduler.clock(): these instants are PostgreSQL's own.
    select coalesce(max(extract(epoch from clock_timestamp() - t.started_at)), 0) into snapshot_age
    from (
        select a.xact_start as started_at from pg_stat_activity a
        where a.datname = current_database() and a.pid <> pg_backend_pid()
            and (a.backend_xmin is not null or a.backend_xid is not null)
            and a.backend_type <> 'autovacuum worker'
        union all
        select p.prepared from pg_prepared_xacts p where p.database = current_database()
    ) t;
    size := pg_database_size(current_database());
    wal := case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') end;
    notify_queue := pg_notification_queue_usage();
    select count(*) into connections from pg_stat_activity a where a.backend_type = 'client backend';
    connections_most := current_setting('max_connections')::integer;
    select array_agg(d.name order by d.name), array_agg(d.dead order by d.name) into tables, dead_rows
    from (
        select regexp_replace(s.relname, '_(\d{8}|default)$', '') as name, sum(s.n_dead_tup)::bigint as dead
        from pg_stat_user_tables s
        where s.schemaname = 'scheduler'
        group by 1
    ) d;
end
$$;
comment on function scheduler.gauge_database() is 'Snapshots, size, log, notifications, connections and dead rows.';

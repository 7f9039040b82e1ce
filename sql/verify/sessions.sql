-- All of the scratch database are ours.
select a.pid from pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid() and a.application_name like 'walclock %'
order by a.backend_start, a.pid

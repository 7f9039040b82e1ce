select count(pg_terminate_backend(a.pid, 5000))
from pg_stat_activity a
where a.datname = current_database() and position($1 in a.application_name) > 0 and a.pid <> pg_backend_pid()

select d.xact_commit + d.xact_rollback from pg_stat_database d where d.datname = current_database()

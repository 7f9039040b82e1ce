select pg_notify('scheduler_bench', $1)

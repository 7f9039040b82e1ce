select scheduler.register_worker($1, p_pid => $2::integer, p_queues => array['straggler'], p_executors => array['python'])

select scheduler.register_worker($1, p_apps => array[$2::text], p_executors => '{python}', p_concurrency => 100)

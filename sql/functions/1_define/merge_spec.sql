create or replace function scheduler.merge_spec(p_executor text, p_job jsonb, p_run jsonb) returns jsonb
language sql immutable as $$
    -- What a triggered run does: the job's spec with the run's laid over it, the run's keys winning. Of the executors
    -- shell and container the environments are merged and the commands joined, the job's first: two arrays become one, and where a string
    -- is among them both become a string for the shell, the words of an array quoted. Of the python executor the
    -- arguments are merged. A null in the run's spec says nothing about these three.
    with laid as (
        select coalesce(p_run, '{}') - array(
            select e.key from jsonb_each(p_run) e
            where e.value = 'null' and e.key in ('args', 'command', 'environment')
        ) as spec
    )
    select p_job || l.spec
        || case
            when p_executor not in ('shell', 'container') or not (p_job ? 'environment' and l.spec ? 'environment') then '{}'
            when jsonb_typeof(p_job -> 'environment') = 'object' and jsonb_typeof(l.spec -> 'environment') = 'object'
                then jsonb_build_object('environment', (p_job -> 'environment') || (l.spec -> 'environment'))
            else '{}'
        end
        || case
            when p_executor not in ('shell', 'container') or not (p_job ? 'command' and l.spec ? 'command') then '{}'
            when jsonb_typeof(p_job -> 'command') = 'array' and jsonb_typeof(l.spec -> 'command') = 'array'
                then jsonb_build_object('command', (p_job -> 'command') || (l.spec -> 'command'))
            else jsonb_build_object('command', (
                select string_agg(
                    case jsonb_typeof(part.command)
                        when 'array' then (
                            select string_agg('''' || replace(w.word, '''', '''\''''') || '''', ' ' order by w.ordinality)
                            from jsonb_array_elements_text(part.command) with ordinality as w (word, ordinality)
                        )
                        else part.command #>> '{}'
                    end, ' ' order by part.place
                )
                from (values (1, p_job -> 'command'), (2, l.spec -> 'command')) as part (place, command)
            ))
        end
        || case
            when p_executor <> 'python' or not (p_job ? 'args' and l.spec ? 'args') then '{}'
            when jsonb_typeof(p_job -> 'args') = jsonb_typeof(l.spec -> 'args')
                then jsonb_build_object('args', (p_job -> 'args') || (l.spec -> 'args'))
            else '{}'
        end
    from laid l
$$;
comment on function scheduler.merge_spec(text, jsonb, jsonb) is 'A job''s spec with a triggered run''s laid over it.';

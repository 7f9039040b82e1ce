create or replace function scheduler.append_log(
    p_app text, p_runs bigint[], p_attempts smallint[], p_lines integer[], p_at timestamptz[], p_streams text[], p_texts text[]
) returns void
language sql as $$
    -- Adds lines that runs of an app wrote. A line that is there already (a batch sent again after a lost answer) stays.
    insert into scheduler.log (app, run_id, attempt, line, at, stream, text)
    select p_app, u.* from unnest(p_runs, p_attempts, p_lines, p_at, p_streams, p_texts) u
    on conflict do nothing
$$;
comment on function scheduler.append_log(text, bigint[], smallint[], integer[], timestamptz[], text[], text[]) is
    'Adds lines to the logs of runs.';

-- What a check looks for can take longer than any statement of the product may, and a snapshot is held open on purpose.
select set_config('statement_timeout', $1, false), set_config('idle_in_transaction_session_timeout', '0', false),
    set_config('timezone', 'UTC', false)

-- Twice: the second clock is read when the sleep is over. In seconds, how late.
select extract(epoch from clock_timestamp())::float8 - $1::float8
from pg_sleep(greatest(0, $1::float8 - extract(epoch from clock_timestamp())::float8))

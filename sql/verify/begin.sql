-- Null is its no; an empty array is a yes.
select (scheduler.begin($1, $2::bigint, $3::bigint) is not null)::integer

-- Nobody calls a function that was not granted to them: PostgreSQL lets everyone who has the schema call all of them.
revoke all on all functions in schema scheduler from public;
-- But for the question that row-level security asks on behalf of whoever reads a table. It tells a role its own apps.
grant execute on function scheduler.apps_allowed() to public;

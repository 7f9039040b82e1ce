delete from scheduler.run_key d where d.app = any ($1::text[])

delete from scheduler.run d where d.app = any ($1::text[])

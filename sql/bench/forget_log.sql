delete from scheduler.log d where d.app = any ($1::text[])

delete from scheduler.fire d where d.app = any ($1::text[])

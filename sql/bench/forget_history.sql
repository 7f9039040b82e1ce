delete from scheduler.history d where d.app = any ($1::text[])

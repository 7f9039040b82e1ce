delete from scheduler.job d where d.app = any ($1::text[])

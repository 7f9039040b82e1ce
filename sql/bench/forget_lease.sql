delete from scheduler.lease d where d.app = any ($1::text[])

select exists (select from scheduler.run r where r.app = $1)

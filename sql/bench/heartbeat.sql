select h.now from scheduler.heartbeat($1) h

select count(*) from scheduler.history h where h.app = $1 and h.outcome = 'succeeded'

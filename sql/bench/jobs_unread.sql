-- What the planner has not looked at for the first time, or not since it was edited.
select count(*) from scheduler.job_schedule s where s.app = $1 and s.next_at = '-infinity'

-- As after a clock that was set back, or a backup of this table alone: what was decided is decided once more.
update scheduler.job_schedule s set next_at = '-infinity', after_at = scheduler.clock() - interval '20 seconds', deferred_at = null
where s.app = $1

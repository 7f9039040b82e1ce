vacuum scheduler.run, scheduler.lease, scheduler.history

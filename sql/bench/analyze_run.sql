analyze scheduler.run

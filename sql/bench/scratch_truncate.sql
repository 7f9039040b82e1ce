truncate run, history

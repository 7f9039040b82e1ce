create table history (like scheduler.history including defaults including indexes)

-- The columns and the indexes; no trigger, no check, no partition.
create table run (like scheduler.run including defaults including indexes)

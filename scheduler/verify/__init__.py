"""`scheduler verify`: real servers, workers and load on a scratch database, faults, and a check of what became of it.

    options ─▶ programme ─┬─▶ load     what is enqueued, and what of it was acknowledged ─┐
                          ├─▶ fleet    servers and workers, started anew when they died   │
                          └─▶ faults   what is done to them, and when                     ├─▶ evidence ─▶ checker
                                       worker.verify: what was executed ─▶ recorder ──────┤       figures ─▶ report
                             scratch   the database: history, ledger, what is left open ──┘

kinds       the faults, by name                  straggler  a worker that comes back from the dead
options     sizes and seconds                    skewed     a process whose wall clock is wrong
programme   faults, jobs and load from the seed  matching   targets and runs by time
scratch     the database, made and dropped       findings   what can be found
certify     one pass, from start to clean-up

The checker believes nobody: what a client was told, what the ledger says, what history says and what was executed are
four accounts of the same runs, and each has to agree with the others. Importing this package loads nothing else.
"""

"""The SQL of the scheduler: one Python function per SQL function, of the same name. Nowhere else is SQL written.

define     what people ask for: jobs, runs, pauses
duty       what a server's duties do: plan, take back, forget
partition  the daily partitions, the only DDL that is composed
watch/     what is to be seen, a page at a time
channel    events, and the jobs that publish them
tick       ticks
access     who may use the HTTP API
alarm      rules of who is told of what
audit      who changed what, and whether that account is whole
refusal    what the database's refusals mean
"""

"""Walclock beside its peers, on one PostgreSQL, in one run: `make bench-peers`.

catalogue   who is measured, at which settings    measure   the measures: enqueue, drain, pick-up, delayed
cache       what has to be there                  process   a peer's script as a process, and what it costs
servers     a PostgreSQL and a Redis              machine   what it all ran on
results     what was found, as it is kept         report    RESULTS.md         chart   the picture of it
scripts/    one per peer, around the loops of protocol.py and protocol.mjs
"""

"""What a process tells Prometheus of itself: counted as it happens, read together only when somebody asks.

    parts count ─▶ samples, on the event loop ─▶ text, in a thread ─▶ /metrics of the API, or of --metrics
     (tallies, meters, gauges)    (exposition)                            (endpoint)

Nothing here asks the database: what is to be known of it, a server's gauger has read before. `catalogue` has the name,
the labels and the meaning of each metric there is, and docs/metrics.md the same for people.
"""

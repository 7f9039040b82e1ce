"""`scheduler bench`: what the product does on a given database, beside what plain SQL does there in the same run.

names       the scenarios, by name          bench       one run: its apps, its costs, its end
enqueue     inserts and COPY                 options     sizes and seconds
drain       a full queue, emptied            results     lines, medians, the document
sleep       short runs, many at once         progress    the bars
pickup      an idle worker is woken          plot        the chart
delayed     runs start at their instant      statements  sql/bench/*.sql
snapshot    a drain under an old snapshot    meter       WAL, CPU and memory
backlog     a drain out of a large backlog   proc        /proc
planning    jobs that fire at one second     processes   workers and servers
idle        nothing to do                    load        rows by the hundred thousand
                                             clients     processes that insert, or listen
                                             floor       the same work in plain SQL

A scenario is a function of a Bench. It repeats its measurement, floor and figure in turn, and adds lines to the
results. Importing this package loads nothing else: other commands must not pay for it.
"""

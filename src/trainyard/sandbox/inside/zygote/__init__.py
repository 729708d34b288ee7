"""The process that boxes are forked from: started clean, it knows nothing of the server that could be stolen.

In: one message on standard input (`assignment.Assignment`), then commands on a unix socket (`commands`). Out: connected
sockets of runners, each process 1 of namespaces of its own. Not here: anything that runs in a box (`inside.runner`).
"""

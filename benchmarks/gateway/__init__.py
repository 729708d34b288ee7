"""What a forwarded request and a cache hit cost, beside LiteLLM's proxy and a bare forward.

Each gateway is a process tree of its own; the load comes from another process and the answers from a third. Counted is
the CPU of the tree: user and system time of all its processes, before and after.
"""

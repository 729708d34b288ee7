"""Boxes that bubblewrap makes: its namespaces and mounts, our lockdown and runner.

A zygote of this kind starts `bwrap` for each box, with the list of `scene` as arguments; in the box `box.py` gives up
what is left and becomes the runner. Started as root it first enters the private root, so that user ids of boxes reach
what lies below directories of root, and lets bwrap begin as such an id: no process of a box is ever uid 0 of the host.
As an ordinary user it needs no namespace of its own, which is why it works where only bwrap may make some.

Not covered, beside what no namespaces cover: bubblewrap cannot bound the number of files, so the runner counts each as
memory; and the runner's own files (log, checkpoint and build of this box) have a path that code of the same box can
find. Nothing is shared between boxes before they start, so each takes the start of an interpreter, and some 15 MB
(80 MB with numpy and pandas).
"""

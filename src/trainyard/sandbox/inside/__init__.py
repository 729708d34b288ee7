"""What runs in isolation: the standard library and these files are all that it imports.

`runner` is process 1 of a box: it reads orders from one socket, has a live interpreter run Python and starts programs
for everything else, keeps output, files and clocks. It is the same program in every backend. Nothing of it is trusted
by the server, which bounds and checks every frame that comes back.
"""

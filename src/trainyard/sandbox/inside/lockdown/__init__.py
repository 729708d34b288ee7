"""What a process gives up for good, by itself, whatever isolates it: capabilities, limits, system calls, paths."""

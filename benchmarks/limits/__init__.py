"""Whether limits leak, and how much of them is used: 200 callers per process on one subject, watched from outside."""

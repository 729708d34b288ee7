"""Boxes made of namespaces of our own, forked from zygotes."""

"""Dialects of serving: parse, call the service, answer."""

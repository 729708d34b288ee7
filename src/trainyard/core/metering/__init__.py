"""Limits and ledger as one step for services: open, do the work, settle."""

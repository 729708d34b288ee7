"""What every capability stands on: settings, errors, ids, keys, storage, processes, HTTP edge.

Knows no capability and no model. Imports nothing above it.
"""

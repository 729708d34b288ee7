"""The linear history of the schema, `NNNN_<capability>_<noun>.py`; a released revision is never edited."""

"""The rows of usage and every question that is asked of them, in SQL that SQLite and Postgres both understand."""

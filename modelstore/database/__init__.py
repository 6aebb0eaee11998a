"""The catalogue: opening and closing a database, and all SQL."""

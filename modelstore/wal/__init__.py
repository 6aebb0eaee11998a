"""The write-ahead log as bytes: no SQLite, no terminal."""

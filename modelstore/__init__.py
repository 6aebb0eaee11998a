"""A catalogue of language models in one SQLite file, and the truth about any WAL database."""

__version__ = "0.1.0"

"""The catalogue: our tables in one SQLite database, and every statement that reads or writes them.

To read:

- `query` filters, sorts and streams models; `expression` checks a person's own SQL condition.
- `lookup` finds the model that a person names, with its files and places.
- `foreign` shows another program's table of models as rows of ours.

To write, in this order:

- `schema` makes and migrates the tables, and shows an older catalogue in today's schema.
- `staging` collects what sources yield, in a scratch file; `redact` keeps secrets out of it.
- `identity` finds the model that a staged one is, and joins rows that turn out to be one; `hub`
  knows which model of a cache a reference to the Hugging Face hub means.
- `merge` takes a batch into the catalogue in one transaction.
- `roots` records what was imported, and marks the models that are gone from there.
- `tags` changes the user's tags, and deletes models.

Functions take the sqlite-utils handle (``db``) and use its API; a function with plain SQL gives
the reason in a ``# plain SQL:`` comment. This package may import `model` and `database`; it knows
no source, no terminal and no file format. A new column is a field of `modelstore.model.Model` and
a step in `schema`; a new table is a step, and a module of its own here.
"""

"""Lists of models: text that a person or program wrote, and databases.

- ``fields``: one field of a record on its way to a column, and the `RecordBuilder`.
- ``reader``: records as rows, a million of them fast; the sources below use its `RecordReader`.
- ``json_records``: JSON documents and JSON lines.
- ``csv_records``: comma- and tab-separated values.
- ``foreign_file``: a database opened without changing anything, its log included.
- ``catalogue``, ``dashboard``: another modelstore catalogue, the llama proxy dashboard.

Imports ``files``, for models of a dashboard whose files are here. To add a text format, write a
module with ``SOURCES`` or ``KIND`` and ``read``, and add its entry to ``sources.kinds``.
"""

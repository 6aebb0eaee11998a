"""Configurations of servers that name models.

- ``command_line``: the model options of a llama-server command line. Everything else is dropped.
- ``configured``: a named model as a record, described from its file if that is here.
- ``llama_swap``: llama-swap's YAML.
- ``preset``: llama-server's presets in INI.

Imports ``files``. To add a configuration, write a module with ``KIND`` and ``read`` that yields
`Configuration.describe` for each `Entry`, and add its entry to ``sources.kinds``.
"""

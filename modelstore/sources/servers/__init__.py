"""Live servers, asked over HTTP within bounds of time and size.

- ``http``: the client: one address, one deadline per request, JSON of a known size.
- ``server``: the items that all kinds of servers make of their lists of models.
- ``llama_server``, ``ollama_server``, ``lmstudio_server``, ``openai_server``: one kind each.
- ``live``: a server of unknown kind. Each kind is asked in the order of the registry.

Imports ``files`` and ``stores`` to find a served model's file on this machine, and ``configs`` to
read the command lines that llama-server reports. To add a server, write a module with ``KIND``,
``usual_places``, ``recognises``, ``read`` and ``items``, and add its entry to ``sources.kinds``
before ``openai-server``, which takes any server.
"""

"""Other programs' stores of models on disk: read only, and no link out of one goes unsaid.

- ``store_files``: listing and reading a store without trusting it.
- ``huggingface``: the hub's cache, which many programs share.
- ``llama_cache``: llama.cpp's older flat cache; its newer one has the hub's layout.
- ``lmstudio``: LM Studio's folder of models.
- ``docker_models``: Docker Model Runner's index, manifests and blobs.
- ``ollama``: Ollama's manifests and blobs; ``ollama_manifests`` reads the former, old and new.

Imports ``files``, which reads the weights. To add a store, write its module with ``KIND``,
``usual_places``, ``recognises``, ``claims`` and ``read``, and add its entry to ``sources.kinds``.
"""

"""Model files: GGUF and safetensors, alone or in a directory tree.

- ``naming``: what a file name says: shard, sidecar, unfinished download, quantization.
- ``local_files``: one file as `stat` shows it, and the record of a model made of such files.
- ``gguf_header``, ``quantization``, ``gguf_model``: GGUF's bytes, its number formats, its record.
- ``safetensors_header``, ``safetensors_model``: the same for safetensors; ``model_config``: the
  columns and the type that a ``config.json`` gives; ``model_card``: the licence in a README.
- ``packing``: the quantization of safetensors, and the parameters that packed words hold.
- ``grouping``: which files of a directory make up which model, by their names alone.
- ``walk``: the listing of a tree; ``usual_places``: where programs keep model files.
- ``directory``: the models of a tree, and the stores in it; the sources ``directory``, ``gguf``
  and ``safetensors``.

Imports no other package of sources. To add a format, write its header and model modules, and let
``naming``, ``grouping`` and ``directory`` know its extension.
"""

"""Sources of models: everything that `import` can read, one module per kind.

The map, lowest floor first; each floor imports only from those above it in this list:

- ``address``, ``paths``, ``values``: addresses, paths and JSON values that others wrote, checked.
- ``base``: the protocol. A source takes a `Target` and a `Context`, and yields items.
- ``kinds``: the registry. One entry per kind says everything that others need to know.
- ``text_input``: text from a file or a stream, in bounded blocks.
- ``files``: model files and directories of them.
- ``stores``, ``configs``, ``records``: other programs' stores, configurations and lists of models.
- ``servers``: live servers. They may name files of a store, or command lines as a configuration.
- ``detect``, ``discover``: the kind of a target, and the targets on this machine.

May import ``catalogue``, ``database`` and ``wal``; knows nothing of the import or of a terminal.

To add a kind, write a module with ``KIND`` and ``read(target, context)`` in the package that fits,
add its entry to ``kinds.KINDS``, and add a test. A module of several kinds maps them in
``SOURCES``. A store also has ``recognises(path, names)`` and ``claims(path, names)``, a server
``recognises`` and ``items``, and a kind with a usual place has ``usual_places(context)``.
"""

"""Bytes that a disk could have back, and the commands that free them. Nothing here deletes.

- `result`: the values that the finders yield, and the whole report
- `duplicates`: the same content more than once, from the catalogue and a look at the files
- `stores`: orphan blobs of Ollama and the hub, revisions of the hub that no branch names
- `downloads`: downloads that were broken off
- `commands`: a shell's command for each of them, of the program that owns the file
- `report`: all of them for one catalogue; no byte counts twice
"""

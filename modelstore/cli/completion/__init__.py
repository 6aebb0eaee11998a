"""Shell completion: `scripts` for each shell, `shell` for the answers, `values` for the words.

It may import what a command may. To complete a new option, write a function in `values`.
"""

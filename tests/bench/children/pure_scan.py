"""Scan a WAL in pure Python, as the file format's description has it. Argument: the -wal."""

from __future__ import annotations

import json
import struct
import sys

with open(sys.argv[1], "rb") as file:
    head = file.read(32)
    magic, _, size, _, salt1, salt2, s0, s1 = struct.unpack(">8I", head)
    order = ">" if magic & 1 else "<"
    words = struct.Struct(f"{order}{2 + size // 4}I")
    valid = committed = 0
    while len(frame := file.read(24 + size)) == 24 + size:
        page, commit, a, b, c0, c1 = struct.unpack_from(">6I", frame)
        if (a, b) != (salt1, salt2) or not page:
            break
        numbers = iter(words.unpack(frame[:8] + frame[24:]))
        for even, odd in zip(numbers, numbers, strict=True):
            s0 = (s0 + even + s1) & 0xFFFFFFFF
            s1 = (s1 + odd + s0) & 0xFFFFFFFF
        if (s0, s1) != (c0, c1):
            break
        valid += 1
        if commit:
            committed = valid
print(json.dumps([valid, committed]))

"""Run a program and print what it took: seconds, processor seconds, bytes at most, exit code.

Arguments: stdin, stdout, the program and its arguments. A process begins with the memory of the
one that started it as its high-water mark, so that it must be started by a small one.
"""

import os
import sys
import time

stdin, stdout, *words = sys.argv[1:]
actions = [
    (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
]
begun = time.perf_counter()
pid = os.posix_spawn(words[0], words, os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - begun
memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
cpu = usage.ru_utime + usage.ru_stime
print(wall, cpu, memory, os.waitstatus_to_exitcode(status))

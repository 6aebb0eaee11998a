"""Be many processes with many descriptors: half on files, half on pipes. Ends with its stdin."""

from __future__ import annotations

import os
import resource
import signal
import sys


def main(file: str, processes: int, descriptors: int) -> None:
    """Hold `descriptors` in each of so many `processes`, and say when they are there."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, descriptors + 64), most))
    wait, ended = os.pipe()
    children = []
    for _ in range(processes):
        child = os.fork()
        if not child:
            os.close(ended)
            kept = os.open(file, os.O_RDONLY)
            for number in range(descriptors):
                os.dup(wait if number % 2 else kept)
            os.close(1)  # the parent's pipe: it is read to its end
            os.read(wait, 1)  # until the parent is gone
            os._exit(0)
        children.append(child)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

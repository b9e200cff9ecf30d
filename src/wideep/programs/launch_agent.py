"""Stands in ssh's place before mpirun: has a command run by the rank of another host. Standard library only.

usage: launch_agent.py SOCKET HOST COMMAND...

The head's `rank` listens on SOCKET; it relays the command to the rank of that host. This process ends as the
command does, and with it: when mpirun ends this one, `rank` notices.
"""

from __future__ import annotations

import json
import os
import socket
import sys


def main(place: str, host: str, *command: str) -> int:
    """Return the command's exit status; 255, as ssh does, where it could not be run."""
    # A socket's address is shorter than a path may be.
    os.chdir(os.path.dirname(place))  # noqa: PTH120
    with socket.socket(socket.AF_UNIX) as head:
        try:
            head.connect(os.path.basename(place))  # noqa: PTH119
            message = {"type": "launch", "host": host, "command": " ".join(command)}
            head.sendall(json.dumps(message).encode() + b"\n")
            answer = head.makefile().readline()
        except OSError as problem:
            print(f"wideep: {place}: {problem.strerror}", file=sys.stderr)
            return 255
    code = int(json.loads(answer)["code"]) if answer else 255
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

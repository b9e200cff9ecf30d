"""Stands for a rank that is not the head, where the mocker replaces the engine. Standard library only.

usage: rank_stand_in.py REPLICA RANK RANKS WHAT_A_REAL_ONE_DOES

The mocker is one process a replica, the head. A real engine has processes on each of the replica's hosts,
which never talk to Dynamo. This process has their place, their name, their log and their end on SIGTERM; it
computes nothing. What makes the ranks of a replica a gang is around it, as it is around a real rank.
"""

from __future__ import annotations

import signal
import sys


def main(replica: str, rank: str, ranks: str, real: str) -> None:
    """Say what this stands for, then wait for SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"simulated: rank {rank} of {ranks} of {replica}; a real one {real}")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])

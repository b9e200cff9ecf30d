"""Between mpirun and a rank: gives UCX the network device of the rank's own GPU. Standard library only.

usage: rank_devices.py COMMAND...

WIDEEP_RANK_DEVICES, of the host's own service, has a device for each rank of the host, separated by commas;
Open MPI says which one this is. UCX would give all of them every device of the host.
"""

from __future__ import annotations

import os
import sys


def main(*command: str) -> None:
    """Become the command. Where the rank or its device is unknown, the environment stays as it is."""
    devices = [name for name in os.environ.get("WIDEEP_RANK_DEVICES", "").split(",") if name]
    rank = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", "")
    if rank.isdigit() and int(rank) < len(devices):
        os.environ["UCX_NET_DEVICES"] = devices[int(rank)]
    os.execvp(command[0], command)  # noqa: S606 - the command is mpirun's


if __name__ == "__main__":
    main(*sys.argv[1:])

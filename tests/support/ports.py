"""Ports on loopback that nobody listens on."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Each test process begins elsewhere, so that two of them seldom try the same one.
_low = itertools.cycle(random.Random(os.getpid()).sample(range(20000, 32000), 2000))


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that is free now, of those that the system gives."""
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def free_low_port() -> int:
    """Return a free port below the ephemeral range: DYN_SYSTEM_PORT is a signed 16-bit number in Dynamo."""
    return next(port for port in itertools.islice(_low, 2000) if is_free(port))

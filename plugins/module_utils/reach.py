"""Whether TCP ports of other hosts can be reached, before anything listens there."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# A lost packet is sent again after 1 s, then after 2 s more.
DEADLINE_S = 4.0
AT_ONCE = 256


def probe(targets: Sequence[tuple[str, int]], deadline_s: float = DEADLINE_S) -> dict[tuple[str, int], str]:
    """Return (IP address, port) -> why it is out of reach, empty where it is not.

    A refused connection is an answer: the way there is free, and nothing listens yet. Silence is a firewall
    that drops packets, or a wrong route; one that rejects says so. Nothing is sent on a connection.
    """
    answers: dict[tuple[str, int], str] = {}
    for start in range(0, len(targets), AT_ONCE):
        answers.update(_probe(targets[start : start + AT_ONCE], deadline_s))
    return answers


def _probe(targets: Sequence[tuple[str, int]], deadline_s: float) -> dict[tuple[str, int], str]:
    answers = dict.fromkeys(targets, f"no answer within {deadline_s:g} s")
    end = time.monotonic() + deadline_s
    with selectors.DefaultSelector() as waiting:
        for target in answers:
            family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)
            code = connection.connect_ex(target)
            if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                waiting.register(connection, selectors.EVENT_WRITE, (target, connection))
            else:
                answers[target] = _meaning(code)
                connection.close()
        while waiting.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                target, connection = key.data
                answers[target] = _meaning(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                waiting.unregister(connection)
                connection.close()
        for key in list(waiting.get_map().values()):
            _, connection = key.data
            waiting.unregister(connection)
            connection.close()
    return answers


def _meaning(code: int) -> str:
    return "" if code in (0, errno.ECONNREFUSED) else os.strerror(code)

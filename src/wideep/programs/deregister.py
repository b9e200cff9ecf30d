"""Takes a dead Dynamo worker out of etcd at once. Standard library only.

usage: deregister.py ETCD_ENDPOINTS SYSTEM_ADDRESS

A worker that was killed stays registered until its lease ends (10 s), and a request that is
routed to it meanwhile is lost, or has to be moved. Its model card names its system address, so its lease is
known: it is revoked. Exit status 0 also when there is nothing to do or etcd is away: the lease then ends by
itself.

Where etcd wants an account, it is in ETCD_AUTH_USERNAME and ETCD_AUTH_PASSWORD, as for Dynamo.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.request
from typing import Any

TIMEOUT_S = 2.0


def post(endpoint: str, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
    """Call etcd's JSON gateway; addresses of the cluster never go through a proxy."""
    header = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
    request = urllib.request.Request(endpoint + path, json.dumps(body).encode(), header)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def token(endpoint: str) -> str:
    """Log in, where there is an account."""
    user = os.environ.get("ETCD_AUTH_USERNAME")
    if not user:
        return ""
    account = {"name": user, "password": os.environ.get("ETCD_AUTH_PASSWORD", "")}
    return str(post(endpoint, "/v3/auth/authenticate", account)["token"])


def leases(endpoint: str, address: str, key: str) -> list[str]:
    """Return the leases of the model cards whose files are served at the address."""
    first, after = b"v1/mdc/", b"v1/mdc0"
    keys = {"key": base64.b64encode(first).decode(), "range_end": base64.b64encode(after).decode()}
    mark = f"http://{address}/".encode()
    found = post(endpoint, "/v3/kv/range", keys, key).get("kvs", [])
    return sorted({kv["lease"] for kv in found if "lease" in kv and mark in base64.b64decode(kv["value"])})


def main(endpoints: str, address: str) -> None:
    """Ask the first member that answers."""
    for endpoint in endpoints.split(","):
        try:
            key = token(endpoint)
            for lease in leases(endpoint, address, key):
                post(endpoint, "/v3/lease/revoke", {"ID": lease}, key)
                print(f"wideep: revoked lease {lease} of the dead worker at {address}", flush=True)
        except (OSError, ValueError, KeyError) as error:
            print(f"wideep: etcd at {endpoint} did not take out the worker at {address}: {error}", flush=True)
        else:
            return


if __name__ == "__main__":
    main(*sys.argv[1:3])

#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: reserved_ports
short_description: Keeps ports of a deployment out of the kernel's range for outgoing connections
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Writes a file for C(/etc/sysctl.d) that sets C(net.ipv4.ip_local_reserved_ports), and does not load it.
  - The kernel has one list for all, so the file also has what the kernel reserves for somebody else already,
    and the ports of the host's other deployments.
options:
  path:
    description: The file. It goes when no deployment has a port in it any more.
    type: path
    required: true
  deployment:
    description: Name of the deployment, kept in the file.
    type: str
    required: true
  ports:
    description: Its ports. Empty, those that it had go.
    type: list
    elements: int
    required: true
  kernel:
    description: Where the kernel tells its list. Nothing is reserved where there is no such file.
    type: path
    default: /proc/sys/net/ipv4/ip_local_reserved_ports
attributes:
  check_mode:
    description: Can predict changes without making them.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
"""

EXAMPLES = r"""
- name: Reserve the ports of the workers
  wideep.dynamo.reserved_ports:
    path: /etc/sysctl.d/91-wideep-ports.conf
    deployment: deepseek-r1
    ports: [20000, 20001]
"""

RETURN = r"""
ports:
  description: The deployment's ports, as ranges.
  returned: success
  type: str
others:
  description: What is reserved for others, as ranges.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files

KEY = "net.ipv4.ip_local_reserved_ports"
TITLE = "# Written by wideep.dynamo.host_tuning: ports that no outgoing connection gets."
OF = "# of "


def numbers(text: str) -> set[int]:
    """Read `8000,9000-9003`."""
    found: set[int] = set()
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low:
            found.update(range(int(low), int(high or low) + 1))
    return found


def ranges(ports: set[int]) -> str:
    """Return `8000,9000-9003`."""
    parts: list[list[int]] = []
    for port in sorted(ports):
        if parts and port == parts[-1][1] + 1:
            parts[-1][1] = port
        else:
            parts.append([port, port])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in parts)


def deployments(content: str) -> dict[str, set[int]]:
    """Return deployment -> its ports, as a file of ours says."""
    lines = [line[len(OF) :].partition(": ") for line in content.splitlines() if line.startswith(OF)]
    return {name: numbers(ports) for name, _, ports in lines}


def planned(before: str, kernel: str, deployment: str, ports: set[int]) -> tuple[str, set[int]]:
    """Return the file's new content ("": none), and the ports of others."""
    known = deployments(before)
    # What the kernel has and no deployment asked for is somebody else's.
    foreign = numbers(kernel) - {port for own in known.values() for port in own}
    known[deployment] = ports
    known = {name: own for name, own in known.items() if own}
    others = foreign | {port for name, own in known.items() if name != deployment for port in own}
    if not known:
        return "", others
    lines = [TITLE, *(f"{OF}{name}: {ranges(own)}" for name, own in sorted(known.items()))]
    return "\n".join([*lines, f"{KEY} = {ranges(others | ports)}", ""]), others


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "deployment": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "kernel": {"type": "path", "default": "/proc/sys/net/ipv4/ip_local_reserved_ports"},
        },
        supports_check_mode=True,
    )
    path, ports = Path(module.params["path"]), set(module.params["ports"])
    wrong = sorted(port for port in ports if not 1 <= port <= 65535)
    if wrong:
        module.fail_json(msg=f"reserved_ports: {', '.join(map(str, wrong))}: no port, they are 1 to 65535")
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    kernel = Path(module.params["kernel"])
    listed = kernel.read_text(encoding="utf-8") if kernel.is_file() else ""
    content, others = planned(before, listed, module.params["deployment"], ports)
    files = Files(module.check_mode)
    if content:
        files.file(path, content)
    else:
        files.remove(path)
    module.exit_json(changed=bool(files.changes), diff=files.diff, ports=ranges(ports), others=ranges(others))


if __name__ == "__main__":
    main()

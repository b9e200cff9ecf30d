"""NVLink within a host and beyond: links, the switches' fabric manager, IMEX where NVLink spans hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.preflight.gpu import asked, numbers, used
from wideep.preflight.model import Check, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

MANAGER = "nvidia-fabricmanager"


def manager(host: Host, _settings: Settings) -> Iterator[Check]:
    """GPUs behind NVSwitches wait for the fabric manager: without it CUDA does not start (error 802)."""
    if (pair := asked(host)) is None:
        return
    needs, facts = pair
    mine = used(needs, facts)
    waiting = [gpu for gpu in mine if gpu.fabric_state and gpu.fabric_state != "Completed"]
    failed = [
        gpu for gpu in mine if gpu.fabric_state == "Completed" and gpu.fabric_status not in {"", "Success"}
    ]
    ill = [gpu for gpu in mine if gpu.fabric_health not in {"", "Healthy"}]
    if not facts.nvswitches and not any(gpu.fabric_state for gpu in mine):
        return  # no NVSwitch, or a virtual machine whose fabric is the hypervisor's
    expected = "active, every GPU registered"
    version = facts.fabric_manager_version
    state = f"{MANAGER} is {facts.fabric_manager}"
    if version and version != facts.driver:
        remedy = f"install {MANAGER} {facts.driver}, the driver's version, then systemctl restart {MANAGER}"
        seen = f"{MANAGER} {version} with driver {facts.driver}: it stops by itself"
        yield Check(host.name, "fabric", "fail", seen, "the driver's version", remedy)
    elif waiting or failed:
        bad = waiting or failed
        what = bad[0].fabric_state if waiting else bad[0].fabric_status
        if facts.fabric_manager == "absent":
            remedy = f"install {MANAGER} {facts.driver} and systemctl enable --now {MANAGER}"
        elif facts.fabric_manager in {"active", "unknown"}:
            remedy = f"systemctl restart {MANAGER} with no CUDA process running; see journalctl -u {MANAGER}"
        else:
            remedy = f"systemctl enable --now {MANAGER}; if it fails: journalctl -u {MANAGER}"
        yield Check(host.name, "fabric", "fail", f"{numbers(bad)}: {what}; {state}", expected, remedy)
    elif facts.nvswitches and facts.fabric_manager not in {"active", "unknown"}:
        remedy = f"systemctl enable --now {MANAGER}; if it fails: journalctl -u {MANAGER}"
        yield Check(host.name, "fabric", "fail", state, expected, remedy)
    elif ill:
        seen = f"{numbers(ill)}: {ill[0].fabric_health}"
        remedy = "nvidia-smi -q | grep -A12 Fabric names what is degraded; check cables, trays and switches"
        yield Check(host.name, "fabric", "warn", seen, "Healthy", remedy)
    else:
        yield Check(host.name, "fabric", "ok", state if facts.nvswitches else "registered", expected)


def links(host: Host, _settings: Settings) -> Iterator[Check]:
    """Every NVLink of every GPU is up."""
    if (pair := asked(host)) is None:
        return
    needs, facts = pair
    mine = used(needs, facts)
    down = [gpu for gpu in mine if gpu.links_down]
    if down:
        which = "; ".join(f"GPU {gpu.index} link {', '.join(map(str, gpu.links_down))}" for gpu in down)
        remedy = (
            "nvidia-smi nvlink -e shows errors; restart the fabric manager, power-cycle the host, then have "
            "the baseboard looked at"
        )
        yield Check(host.name, "nvlink", "fail", f"down: {which}", "all links up", remedy)
    elif facts.nvlink_error and not any(gpu.links_up for gpu in mine):
        remedy = "run nvidia-smi nvlink -s on the host; journalctl -k | grep -iE 'xid|nvrm' says more"
        yield Check(host.name, "nvlink", "warn", f"not known: {facts.nvlink_error}", "all links up", remedy)
    elif len(mine) > 1 and not any(gpu.links_up for gpu in mine):
        off = facts.params.get("NvLinkDisable") == "1"
        seen = "no NVLink: GPUs talk over PCIe" + (" (NvLinkDisable=1)" if off else "")
        remedy = (
            "remove NVreg_NvLinkDisable from /etc/modprobe.d and reboot"
            if off
            else "start the fabric manager; on a virtual machine pass the NVSwitches or the partition through"
        )
        yield Check(host.name, "nvlink", "warn", seen, "all links up", remedy)
    elif few := [gpu for gpu in mine if gpu.links_up != max(g.links_up for g in mine)]:
        seen = f"{numbers(few)}: {few[0].links_up} links, others {max(gpu.links_up for gpu in mine)}"
        remedy = "restart the fabric manager, power-cycle the host, then have the baseboard looked at"
        yield Check(host.name, "nvlink", "fail", seen, "the same on all GPUs", remedy)
    elif mine and mine[0].links_up:
        yield Check(host.name, "nvlink", "ok", f"{mine[0].links_up} links on each GPU", "all links up")


def imex(host: Host, _settings: Settings) -> Iterator[Check]:
    """Where NVLink spans hosts, memory is shared between them by IMEX."""
    if (pair := asked(host)) is None:
        return
    needs, facts = pair
    card = needs.system
    if card is None or not card.multi_node_nvlink:
        return
    if facts.imex == "active" and facts.imex_channels == 0:
        remedy = (
            "write `options nvidia NVreg_CreateImexChannel0=1` into /etc/modprobe.d and reboot; until then:"
            " mknod /dev/nvidia-caps-imex-channels/channel0 c MAJOR 0 (/proc/devices has MAJOR)"
        )
        seen = "no channel below /dev/nvidia-caps-imex-channels"
        yield Check(host.name, "imex", "fail", seen, "active, with a channel", remedy)
    elif facts.imex == "active":
        yield Check(host.name, "imex", "ok", "nvidia-imex is active", "active")
    elif facts.imex != "unknown":
        remedy = (
            "list the rack's hosts in /etc/nvidia-imex/nodes_config.cfg, then "
            "systemctl enable --now nvidia-imex"
        )
        yield Check(host.name, "imex", "fail", f"nvidia-imex is {facts.imex}", "active", remedy)

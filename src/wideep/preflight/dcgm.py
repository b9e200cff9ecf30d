"""DCGM, where a site runs it: what it has seen of the GPUs since it watches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.preflight.gpu import asked
from wideep.preflight.model import Check, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wideep.preflight.gpu_model import Incident

EXPECTED = "Healthy, where DCGM watches"
# Beginning of the system's name -> remedy. First match.
REMEDIES = (
    ("Memory", "drain the host, nvidia-smi --gpu-reset -i {id}; replace the GPU if it comes back"),
    ("NVLINK", "compare with nvidia-smi nvlink -s and -e; restart the fabric manager, power-cycle the host"),
    ("PCIe", "reseat the GPU or its riser; lspci -vv shows the link's width and speed"),
    ("Thermal", "check cooling and air flow"),
    ("Power", "check power supplies and the power brake"),
    ("Driver", "reboot the host; journalctl -k | grep Xid says what the driver met"),
    ("", "dcgmi diag -r 2 while nothing uses the GPUs; journalctl -k | grep Xid"),
)


def health(host: Host, _settings: Settings) -> Iterator[Check]:
    """DCGM's opinion of the GPUs of the plan and of the switches; no line where it is not installed."""
    if (pair := asked(host)) is None or pair[1].dcgm is None:
        return
    needs, dcgm = pair[0], pair[1].dcgm
    mine = [i for i in dcgm.incidents if i.entity != "GPU" or i.id < needs.gpus]
    if "host engine" in dcgm.error.lower():
        remedy = "systemctl enable --now nvidia-dcgm, or remove the package: nobody watches these GPUs"
        yield Check(host.name, "dcgm", "warn", "installed, its host engine does not run", EXPECTED, remedy)
    elif dcgm.error:
        remedy = "run dcgmi health -c on the host; systemctl restart nvidia-dcgm"
        yield Check(host.name, "dcgm", "warn", dcgm.error, EXPECTED, remedy)
    elif not dcgm.watched:
        yield Check(host.name, "dcgm", "ok", "runs, health watches are off (dcgmi health -s a)", EXPECTED)
    elif not dcgm.incidents and dcgm.overall != "Healthy":
        remedy = "dcgmi health -c on the host names what it is"
        yield Check(host.name, "dcgm", "warn", f"overall health: {dcgm.overall}", EXPECTED, remedy)
    elif not mine:
        yield Check(host.name, "dcgm", "ok", "no incident on the GPUs of the plan", EXPECTED)
    for incident in mine:
        remedy = next(text for system, text in REMEDIES if incident.system.startswith(system))
        yield Check(
            host.name,
            "dcgm",
            "fail" if _stops(incident) else "warn",
            f"{incident.entity} {incident.id}: {incident.system} {incident.health}"
            + (f", {incident.text}" if incident.text else ""),
            EXPECTED,
            remedy.format(id=incident.id),
        )


def _stops(incident: Incident) -> bool:
    """Whether an incident is a failure. Links are left to topics nvlink, fabric and imex.

    DCGM takes GPUs without NVLink, and an IMEX with nothing to do, for failures (NVIDIA/NVSentinel#1481,
    NVIDIA/aicr#2641).
    """
    return incident.health == "Failure" and not incident.system.startswith("NVLINK")

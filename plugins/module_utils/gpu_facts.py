"""What preflight wants to know of a GPU host. Facts only: the controller judges them.

`root` is where files are read from (tests give a recorded tree). An absent tool is a fact, not an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.wideep.dynamo.plugins.module_utils.dcgm_facts import parse_health
from ansible_collections.wideep.dynamo.plugins.module_utils.kernel_facts import first_line, kernel
from ansible_collections.wideep.dynamo.plugins.module_utils.process import PATH as SYSTEM_PATH
from ansible_collections.wideep.dynamo.plugins.module_utils.python_packages import AskError, ask
from ansible_collections.wideep.dynamo.plugins.module_utils.rdma_facts import ibstat_error, parse_ibstat, rdma
from ansible_collections.wideep.dynamo.plugins.module_utils.sockets import process

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 60.0  # without persistence mode the first question wakes every GPU
PATH = f"{SYSTEM_PATH}:/usr/local/nvidia/bin"
# Modules that open GPU memory to network cards: NVIDIA's, and AWS's for its own.
PEERMEM = ("nvidia_peermem", "efa_nv_peermem")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# Clocks that are held down by something that is wrong; idle and power cap are normal.
SLOWDOWNS = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown")


def gather(root: Path = Path("/"), python: str = "", packages: Sequence[str] = ()) -> dict[str, Any]:
    """Return the GPU facts of this host; memory in MiB, other sizes in bytes, rates in Gbit/s.

    python, packages: an interpreter, and the packages whose versions in it are wanted.
    """
    code, output = run(["nvidia-smi", "-q", "-x"])
    facts = parse_smi(output) if code == 0 else _no_smi(code, output)
    nvlink, told = run(["nvidia-smi", "nvlink", "-s"]) if facts["gpus"] else (0, "")
    links = parse_nvlink(told)
    nics = parse_topology(run(["nvidia-smi", "topo", "-m"])[1]) if facts["gpus"] else {}
    for gpu in facts["gpus"]:
        gpu.update(links.get(gpu["index"], {"links_up": 0, "links_down": []}))
        gpu["nics"] = nics.get(gpu["index"], {})
        gpu["processes"] = [{**entry, **_owner(entry, root)} for entry in gpu["processes"]]
    return {
        **facts,
        "nvlink_error": "" if nvlink == 0 else first_words(told) or f"exit status {nvlink}",
        "dcgm": parse_health(*run(["dcgmi", "health", "-c", "-j"])) if facts["gpus"] else None,
        "params": _params(root),
        "open_module": "Open Kernel Module" in first_line(root / "proc/driver/nvidia/version"),
        "peermem": any((root / "sys/module" / name).is_dir() for name in PEERMEM),
        "gdrcopy": (root / "dev/gdrdrv").exists(),
        "nvswitches": len(list((root / "dev").glob("nvidia-nvswitch[0-9]*"))),
        "fabric_manager": _service("nvidia-fabricmanager"),
        "fabric_manager_version": _fabric_manager_version(),
        "imex": _service("nvidia-imex"),
        "imex_channels": _imex_channels(root),
        **_rdma(root),
        "kernel": kernel(root, [gpu["bus_id"] for gpu in facts["gpus"]]),
        # The kernel's own driver has no version of its own.
        "ofed": first_line(root / "sys/module/mlx5_core/version"),
        "packages": _packages(python, packages) if python else None,
    }


def _rdma(root: Path) -> dict[str, Any]:
    """Return rdma and rdma_error.

    ibstat reads /sys too. It says more where it is a wrapper that asks the host, as in some containers, and
    it says why a device cannot be read.
    """
    if found := rdma(root):
        return {"rdma": found, "rdma_error": ""}
    code, output = run(["ibstat"])
    return {"rdma": parse_ibstat(output, root), "rdma_error": ibstat_error(code, output)}


def _packages(python: str, names: Sequence[str]) -> dict[str, str]:
    """Return package -> version, of those that an interpreter finds; empty where it does not run."""
    try:
        return ask(python, names, TIMEOUT_S)
    except AskError:
        return {}


def run(argv: Sequence[str], timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
    """Run a tool; return its exit status (127 absent, 126 forbidden, 124 too slow) and all that it wrote."""
    env = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{PATH}"}
    try:
        done = subprocess.run(
            list(argv),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {timeout_s:g} s"
    except PermissionError as error:
        return 126, f"{argv[0]}: {error.strerror}"
    except OSError as error:
        return 127, str(error.strerror)
    return done.returncode, ESCAPE.sub("", done.stdout.decode(errors="replace"))


def _no_smi(code: int, output: str) -> dict[str, Any]:
    error = "nvidia-smi is not installed" if code == 127 else first_words(output) or f"exit status {code}"
    return {"error": error, "driver": "", "cuda": "", "gpus": []}


def first_words(text: str) -> str:
    """Return the beginning of a text, in one line."""
    return " ".join(text.split())[:300]


def parse_smi(text: str) -> dict[str, Any]:
    """Return error, driver, cuda and gpus of `nvidia-smi -q -x`; what a GPU does not tell is None."""
    try:
        log = ET.fromstring(text[text.find("<") :])  # noqa: S314 - the driver's own tool
    except ET.ParseError:
        return _no_smi(0, text)
    gpus = [_gpu(index, node) for index, node in enumerate(log.findall("gpu"))]
    return {
        "error": "",
        "driver": log.findtext("driver_version", ""),
        "cuda": log.findtext("cuda_version", ""),
        "gpus": gpus,
    }


def _gpu(index: int, node: ET.Element) -> dict[str, Any]:
    def text(path: str) -> str:
        found = (node.findtext(path) or "").strip()
        return "" if found in {"N/A", "[N/A]"} else found

    reasons = [
        *node.iterfind("clocks_event_reasons/*"),
        *node.iterfind("clocks_throttle_reasons/*"),  # up to driver 530
    ]
    active = {r.tag.split("_reason_")[-1] for r in reasons if (r.text or "").strip() == "Active"}
    pending = ("channel_repair_pending", "tpc_repair_pending")
    return {
        "index": index,
        "name": text("product_name"),
        "memory_mib": number(text("fb_memory_usage/total")),
        "used_mib": number(text("fb_memory_usage/used")),
        # 00000000:1B:00.0 in the log is 0000:1b:00.0 in /sys
        "bus_id": node.get("id", "").lower()[-12:],
        "persistence": _enabled(text("persistence_mode")),
        "mig": _enabled(text("mig_mode/current_mig")),
        "ecc": _enabled(text("ecc_mode/current_ecc")),
        "uncorrected": _uncorrected(node.find("ecc_errors/volatile")),
        "uncorrected_ever": _uncorrected(node.find("ecc_errors/aggregate")),
        "unrepairable": "Yes"
        in {text("remapped_rows/remapped_row_failure"), text("ecc_errors/unrepairable_memory")},
        "repair_pending": "Yes"
        in {text("remapped_rows/remapped_row_pending"), *(text(f"ecc_errors/{name}") for name in pending)},
        "recovery": "" if text("gpu_recovery_action") == "None" else text("gpu_recovery_action"),
        "slowdowns": [name for name in SLOWDOWNS if name in active],
        "fabric_state": text("fabric/state"),
        "fabric_status": text("fabric/status"),
        "fabric_health": text("fabric/health/summary"),
        "processes": [
            {
                "pid": number(entry.findtext("pid")) or 0,
                "process": (entry.findtext("process_name") or "").strip(),
                "used_mib": number(entry.findtext("used_memory")),
            }
            for entry in node.findall("processes/process_info")
        ],
    }


def number(text: str | None) -> int | None:
    """Return the whole number that a text begins with, as in `81559 MiB`."""
    match = re.match(r"\d+", (text or "").strip())
    return int(match.group()) if match else None


def _enabled(text: str) -> bool | None:
    return {"Enabled": True, "Disabled": False}.get(text)


def _uncorrected(errors: ET.Element | None) -> int | None:
    """Return the sum over all memories; None where the GPU does not count."""
    if errors is None:
        return None
    counts = [number(entry.text) for entry in errors if "uncorrectable" in entry.tag]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def parse_nvlink(text: str) -> dict[int, dict[str, Any]]:
    """Return GPU index -> links_up (how many), links_down (which), of `nvidia-smi nvlink -s`."""
    found: dict[int, dict[str, Any]] = {}
    gpu: dict[str, Any] = {}
    for line in text.splitlines():
        head = re.match(r"GPU (\d+):", line)
        link = re.match(r"\s+Link (\d+): (.*)", line)
        if head:
            gpu = found.setdefault(int(head.group(1)), {"links_up": 0, "links_down": []})
        elif link and gpu:
            if "GB/s" in link.group(2):
                gpu["links_up"] += 1
            else:
                gpu["links_down"].append(int(link.group(1)))
    return found


def parse_topology(text: str) -> dict[int, dict[str, str]]:
    """Return GPU index -> RDMA device -> their connection (PIX, PXB, NODE, ...), of `nvidia-smi topo -m`."""
    lines = [[cell.strip() for cell in line.split("\t")] for line in text.splitlines() if "\t" in line]
    header = next((cells for cells in lines if "GPU0" in cells[1:]), [])
    # Newer drivers number the devices and name them in a legend; older ones have the names themselves.
    legend = dict(re.findall(r"^\s*(NIC\d+): (\S+)\s*$", text, re.MULTILINE))
    rows = [cells for cells in lines if re.fullmatch(r"GPU\d+", cells[0])]
    return {
        int(cells[0][3:]): {
            legend.get(name, name): value
            for name, value in zip(header[1:], cells[1:])
            if re.fullmatch(r"NIC\d+|mlx\w+|bnxt_re\w+|irdma\w+|rdma\w+|efa\w+|ib\w+|roce\w+", name)
        }
        for cells in rows
    }


def _params(root: Path) -> dict[str, str]:
    """Return the parameters of the NVIDIA module as it was loaded; empty without a driver."""
    try:
        lines = (root / "proc/driver/nvidia/params").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    wanted = {"EnableStreamMemOPs", "RegistryDwords", "NvLinkDisable"}
    return {name: value.strip().strip('"') for name, _, value in pairs if name in wanted}


def _imex_channels(root: Path) -> int | None:
    """Return how many there are; None where the loaded driver knows no such devices."""
    kind = "nvidia-caps-imex-channels"
    try:
        known = kind in (root / "proc/devices").read_text()
    except OSError:
        known = False
    return len(list((root / "dev" / kind).glob("channel[0-9]*"))) if known else None


def _service(name: str) -> str:
    """Return active, inactive, failed, ... or absent (no such unit), unknown (no systemd to ask)."""
    code, output = run(["systemctl", "show", "--property=LoadState,ActiveState", f"{name}.service"], 10)
    values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if code != 0 or "ActiveState" not in values:
        return "unknown"
    return "absent" if values.get("LoadState") == "not-found" else values["ActiveState"]


def _fabric_manager_version() -> str:
    match = re.search(r"version is\s*:?\s*([\d.]+)", run(["nv-fabricmanager", "--version"], 10)[1])
    return match.group(1) if match else ""


def _owner(entry: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return which service of which deployment a process is, if any."""
    known = process(entry["pid"], root / "proc")
    return {name: known[name] for name in ("state_dir", "service")}

"""Open MPI, which starts the ranks of a replica on its hosts."""

from __future__ import annotations

from pathlib import PurePosixPath

from wideep.deployment import network
from wideep.deployment.launch import ProgramFile
from wideep.deployment.model import Pool, Replica
from wideep.deployment.site import Site
from wideep.engines.options import parse_options
from wideep.engines.trtllm.options import Case, TrtllmOptions


def host_file(replica: Replica) -> str:
    """Return Open MPI's host file: the head first, as many ranks on a host as it gives GPUs."""
    return "".join(f"{node.host.address} slots={len(node.gpus)}\n" for node in replica.nodes)


def mpi_programs(pool: Pool, *, head: bool) -> tuple[tuple[str, ...], ...]:
    """Return what the service of a replica's host looks for: for each program the names that it may have."""
    mpirun = parse_options(pool, "trtllm", TrtllmOptions)[0].mpirun
    # Named by its path, it has its daemon started from there on the other hosts too.
    place = f"{PurePosixPath(mpirun).parent}/" if mpirun.startswith("/") else ""
    daemon = (f"{place}orted", f"{place}prted")
    return (*([(mpirun,)] if head else []), daemon, ("trtllm-llmapi-launch",))


def mpirun(case: Case, site: Site, hosts: str, before: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the words before Dynamo's own. before: those that a rank is started with."""
    return (
        case.options.mpirun,
        "-n",
        str(case.world_size),
        "--hostfile",
        hosts,
        # Else mpirun 5 holds a pipe open to rank 0, whose end a reader would wait for.
        *("--stdin", "none"),
        # Ranks in order: those of one host follow each other, as TensorRT-LLM numbers its GPUs.
        *("--map-by", "slot", "--bind-to", "none"),
        # Not UCX: its variables here are for the KV cache's transfer.
        *("--mca", "pml", "ob1"),
        # The service's own directory exists on the head only.
        *("--wdir", site.state_dir),
        # Else the daemons detach themselves: from their services, and from the logs.
        "--leave-session-attached",
        *before,
        "trtllm-llmapi-launch",
    )


def rank_devices(case: Case, site: Site) -> tuple[tuple[str, ...], tuple[ProgramFile, ...]]:
    """Return what mpirun starts before a rank to give it its own device, and its program.

    Nothing unless the inventory names a device for each GPU (`wideep_network.gpu_devices`).
    """
    if not (case.disaggregated and all(map(network.devices_of_ranks, case.replica.nodes))):
        return (), ()
    program = site.program("rank_devices")
    # By the service's PATH: it needs the standard library only.
    return ("python3", "-IS", program.path), (program,)


def mpi_env(case: Case, agent: str, interface: str) -> dict[str, str]:
    """Return Open MPI's own settings, by the names of versions 4 and 5. It hands them on by itself.

    All else the ranks of a host have from their own service: it is not passed on.
    """
    root = case.settings.in_container or case.settings.service_user in ("", "root")
    allowed = ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT") if root else ()
    return {
        "OMPI_MCA_plm_rsh_agent": agent,
        "PRTE_MCA_plm_ssh_agent": agent,
        # Each daemon by the head, none by another daemon: that has no agent.
        "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        # The agent knows the hosts as the host file names them.
        "OMPI_MCA_orte_keep_fqdn_hostnames": "1",
        "PRTE_MCA_prte_keep_fqdn_hostnames": "1",
        # One interface by name: Open MPI would try those of containers and storage too.
        "OMPI_MCA_btl_tcp_if_include": interface,
        "OMPI_MCA_oob_tcp_if_include": interface,
        "PRTE_MCA_prte_if_include": interface,
        # For a user without a login shell: Open MPI wants to know whose syntax to write.
        "SHELL": "/bin/bash",
        **{f"{name}{more}": "1" for name in allowed for more in ("", "_CONFIRM")},
    }

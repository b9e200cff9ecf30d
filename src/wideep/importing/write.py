"""An imported inventory as files, and the table of what became of every setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from wideep.engines.importing import Row, State
from wideep.importing.build import Imported
from wideep.importing.source import refuse
from wideep.reports.text import print_table

WIDEST = 60
# What wants a look comes last, where it is seen.
ORDER: tuple[State, ...] = (
    "set by wideep",
    "kept",
    "renamed",
    "default",
    "added",
    "changed",
    "left out",
    "not understood",
)
GROUPS = ("control", "frontend", "prefill", "decode", "aggregated")
# Variable that begins a paragraph -> its comment.
PARAGRAPHS = {
    "wideep_runtime": "By podman, from the official image of the release; wideep_image can name its digest.",
    "wideep_gpu": "The hosts: GPUs, and what is between them.",
    "wideep_interface": "Placeholder: the interface of the route between the hosts.",
    "wideep_network": "RDMA devices beside the GPUs (`ibdev2netdev`): placeholders, or the source's.",
    "wideep_eplb": "Experts: copies, and whether they are moved while serving.",
    "wideep_kv_transfer": "What carries the KV cache from prefill to decode.",
    "wideep_pools": "How hosts become replicas, and what the engine is told.",
    "secrets_env": "Secrets of the workers, from the environment of the machine that deploys.",
    "wideep_state_dir": "",
}
FIRST = (
    "wideep_deployment",
    "wideep_release",
    "wideep_engine",
    "wideep_model",
    "wideep_model_path",
    "wideep_runtime",
    "wideep_gpu",
    "wideep_gpus_per_node",
    "wideep_interface",
    "wideep_network",
    "wideep_eplb",
    "wideep_kv_transfer",
    "wideep_pools",
)


def write(imported: Imported, out: Path) -> list[Path]:
    """Write an inventory into a new directory. Raises RefusedError where there is something already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise refuse(
            "there is something already, and nothing is overwritten", str(out), "give --out another directory"
        )
    written = []
    for name, text in files(imported).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def files(imported: Imported) -> dict[str, str]:
    """Return path below the inventory -> text."""
    return {"hosts.yml": _hosts(imported), "group_vars/all.yml": _group_vars(imported)}


def _hosts(imported: Imported) -> str:
    lines = [
        "---",
        f"# Imported from {imported.source}. Names and addresses are placeholders: write those of your",
        "# hosts, in the same numbers. Hosts in inventory order get ranks 0, 1, 2 …",
        "all:",
        "  children:",
    ]
    told: set[str] = set()
    for group in (name for name in GROUPS if name in imported.groups):
        lines += [f"    {group}:", "      hosts:"]
        for host in imported.groups[group]:
            lines.append(f"        {host}:")
            if host not in told:
                lines.append(f"          ansible_host: {imported.addresses[host]}")
                told.add(host)
    return "\n".join(lines) + "\n"


def _group_vars(imported: Imported) -> str:
    lines = [
        "---",
        f"# Imported from {imported.source}.",
        "# All variables: ansible-doc -t role wideep.dynamo.wideep",
    ]
    variables = imported.variables
    names = [name for name in FIRST if name in variables] + [name for name in variables if name not in FIRST]
    for name in names:
        value = variables[name]
        if value in ({}, [], None):
            continue
        if name in PARAGRAPHS:
            lines.append("")
            lines += [f"# {PARAGRAPHS[name]}"] if PARAGRAPHS[name] else []
        lines += _emit({name: value}, "", (), imported.comments)
    riddles = [row for row in imported.rows if row.state == "not understood"]
    if riddles:
        lines += ["", "# Not understood, and so not here:"]
        lines += [f"#   {row.role or 'source'}: {row.name} {_shown(row.value)}".rstrip() for row in riddles]
    return "\n".join(lines) + "\n"


def _emit(
    tree: Mapping[str, Any], indent: str, path: tuple[str, ...], comments: Mapping[tuple[str, ...], str]
) -> Iterator[str]:
    for key, value in tree.items():
        here = (*path, str(key))
        comment = f"  # {comments[here]}" if here in comments else ""
        name = _scalar(key)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:{comment}"
            yield from _emit(value, indent + "  ", here, comments)
        else:
            yield f"{indent}{name}: {_scalar(value)}{comment}"


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    text = text.removesuffix("\n").removesuffix("\n...").removesuffix("...\n")
    # Ansible would take it for a template.
    return f"!unsafe {text}" if isinstance(value, str) and ("{{" in value or "{%" in value) else text


def table(rows: Sequence[Row], source: str) -> str:
    """Return what became of every setting of a source, one line each, what wants a look last."""
    lines = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("POOL", "SETTING", "VALUE", "STATE", "WHAT BECOMES OF IT", "SOURCE:LINE"):
        lines.add_column(column, no_wrap=True)
    for row in sorted(rows, key=lambda row: ORDER.index(row.state)):
        name = row.name.removeprefix("--") if row.state == "added" else row.name
        state = "renamed to" if row.state == "renamed" else row.state
        where = row.where.rpartition("/")[2]
        lines.add_row(row.role or "-", name, _shown(row.value), state, row.becomes, where)
    counts = Counter(row.state for row in rows)
    summary = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    head = f"Settings of {source}, and what became of them; pool -: of the whole deployment"
    return f"{head}\n\n{print_table(lines)}\n{len(rows)} settings: {summary}\n"


def _shown(value: Any) -> str:
    if value is None or value is True:
        return ""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text.replace("[", "(").replace("]", ")") if text.startswith("[/") else text
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"

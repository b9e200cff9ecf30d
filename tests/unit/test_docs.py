"""The documentation names what exists: links lead somewhere, variables are declared, no page is lost."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from places import REPOSITORY

PAGES = [*sorted(REPOSITORY.glob("docs/**/*.md")), REPOSITORY / "README.md", *REPOSITORY.glob("k8s/**/*.md")]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
# What playbooks register or publish, beside variables.
PUBLISHED = {"wideep_plan", "wideep_summary", "wideep_data", "frontend_url"}


def test_no_merge_is_left_half_done() -> None:
    marks = re.compile(r"^(<{7}|>{7}|\|{7}) ", re.M)
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [REPOSITORY / name for name in listed.stdout.splitlines()]
    texts = (path for path in files if path.is_file() and path.suffix not in {".tar", ".png"})
    assert [str(p) for p in texts if marks.search(p.read_text(encoding="utf-8", errors="replace"))] == []


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def declared() -> frozenset[str]:
    """Return every public variable of every role."""
    found: set[str] = set()
    for spec in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(spec.read_text(encoding="utf-8"))["argument_specs"].values():
            found |= entry.get("options", {}).keys()
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert not broken


# variables.md is made of the declarations: test_reference.py.
@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "variables.md"], ids=name_of)
def test_variables_exist(page: Path) -> None:
    """`wideep_x` anywhere, and `<role>_x` in code, are variables."""
    text = page.read_text(encoding="utf-8")
    roles = "|".join(path.name for path in REPOSITORY.glob("roles/*") if path.is_dir())
    named = set(re.findall(rf"`((?:{roles})_[a-z0-9_]+)[`:.]", text))
    named |= set(re.findall(r"(?<![\w./-])(wideep_[a-z0-9_]*[a-z0-9])(?!\w)", text))
    assert named - declared() - PUBLISHED == set()


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs/README.md").read_text(encoding="utf-8")
    pages = {str(page.relative_to(REPOSITORY / "docs")) for page in REPOSITORY.glob("docs/*/*.md")}
    assert {page for page in pages if f"({page})" not in index} == set()

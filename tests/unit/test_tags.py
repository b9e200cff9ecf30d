"""Tags that no playbook has: a run with them would do nothing, and end well."""

from __future__ import annotations

from places import REPOSITORY

from wideep.inventory import tags

PLAYBOOKS = REPOSITORY / "playbooks"


def test_tags_of_the_playbooks_and_of_ansible_are_known() -> None:
    words = ["worker", "verify", "preflight", "graph", "all", "never", "untagged"]
    assert tags.unknown(words, PLAYBOOKS, "--tags") == []


def test_an_unknown_tag_names_the_nearest() -> None:
    (problem,) = tags.unknown(["worker", "workers"], PLAYBOOKS, "--skip-tags")
    assert problem.where == "--skip-tags"
    assert "'workers'" in problem.message
    assert problem.remedy == "did you mean worker?"

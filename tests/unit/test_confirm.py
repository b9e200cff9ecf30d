"""What is asked before a removal, and of whom."""

from __future__ import annotations

from dataclasses import replace

import pytest
from example_inventories import inventory, local
from example_playbook import run_action

from wideep.plan import make_plan
from wideep.published import Published
from wideep.reports.confirm import question, unconfirmed

PLAN = make_plan(*inventory("deepseek_r1_sglang")).publish()
TEXT = "it is stopped and removed"


def given(confirm: object) -> Published:
    return replace(PLAN, settings=PLAN.settings.model_copy(update={"confirm": confirm}))


@pytest.mark.parametrize("confirm", [PLAN.deployment, True])
def test_a_confirmed_removal_goes_on(confirm: object) -> None:
    assert unconfirmed(given(confirm), TEXT) is None


@pytest.mark.parametrize("confirm", ["", "other", False])
def test_a_removal_on_several_hosts_is_asked_for(confirm: object) -> None:
    problem = unconfirmed(given(confirm), TEXT)
    assert problem
    assert f"-e wideep_confirm={PLAN.deployment}" in problem.remedy
    assert "control01.example.com" in problem.message


def test_one_machine_is_asked_nothing_and_keeps_nothing() -> None:
    plan = make_plan(*local()).publish()
    assert unconfirmed(plan, TEXT) is None
    assert not plan.keep_state


def test_the_question_says_what_stays() -> None:
    assert question(PLAN, TEXT).endswith("; data, logs, environments and models stay there")
    gone = question(replace(PLAN, keep_state=False), TEXT)
    assert gone.endswith("; with it data, logs, environments and models (wideep_keep_state is false)")
    some = question(PLAN, TEXT, ["prefill01.example.com", "localhost"])
    assert "on host prefill01.example.com; " in some
    cluster = make_plan(*inventory("kubernetes_sglang", ansible_connection="local")).publish()
    assert "on namespace " in question(cluster, TEXT)
    assert question(cluster, TEXT).endswith("; the model stays there")


def test_the_action_says_what_to_ask() -> None:
    refused = run_action("confirm", {"text": TEXT}, wideep_plan=PLAN.to_dict())
    assert refused["failed"]
    assert refused["wideep_refused"]
    assert refused["wideep_confirm"]["name"] == PLAN.deployment
    assert not run_action("confirm", {"text": TEXT}, check=True, wideep_plan=PLAN.to_dict()).get("failed")
    assert not run_action("confirm", {"text": TEXT}, wideep_plan=given(True).to_dict()).get("failed")


def test_findings_fail_with_their_first() -> None:
    assert not run_action("judge", {"findings": []}).get("failed")
    failed = run_action("judge", {"findings": ["one", "two", "three"]})
    assert failed["wideep_unhealthy"]
    assert failed["msg"] == "one (and 2 more, above)"

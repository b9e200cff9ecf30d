"""Facts that the controller and the hosts both have: neither side can import the other's."""

from __future__ import annotations

import yaml
from ansible_collections.wideep.dynamo.plugins.module_utils import launch as on_host
from ansible_collections.wideep.dynamo.plugins.module_utils import process
from places import REPOSITORY

from wideep.cluster.platform import Platform
from wideep.deployment import build, launch, site
from wideep.hosts import container


def test_the_form_of_a_launch() -> None:
    assert launch.SCHEMA_VERSION == on_host.SCHEMA_VERSION


def test_the_longest_state_directory() -> None:
    assert build.LONGEST_STATE_DIR == on_host.STATE_DIR_MAX


def test_where_programs_are_looked_for() -> None:
    assert site.SYSTEM_PATH == process.PATH


def test_what_marks_a_process() -> None:
    assert container.MARKS == process.MARKS


def test_the_variables_of_the_platform() -> None:
    role = REPOSITORY / "roles" / "platform"
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    passed = yaml.safe_load((role / "vars" / "main.yml").read_text(encoding="utf-8"))["_platform_own"]
    own = Platform()
    assert list(passed) == list(Platform.__dataclass_fields__)
    assert {f"platform_{name}" for name in passed} == defaults.keys() - {"platform_deadline_s", "wideep_plan"}
    for name, value in passed.items():
        assert value == f"{{{{ platform_{name} }}}}"
        default = defaults[f"platform_{name}"]
        assert "{{" in str(default) or default == getattr(own, name), name

"""`bundle` while a host is down: the other one's logs are in it, and who was not reached."""

from __future__ import annotations

import tarfile
from pathlib import Path

import yaml
from places import LOCAL

from wideep import runner


def test_a_host_that_is_down_is_named_and_holds_up_nothing(tmp_path: Path) -> None:
    state, out = tmp_path / "s", tmp_path / "out"
    (state / "log").mkdir(parents=True)
    out.mkdir()
    (state / "log" / "frontend.log").write_text("HF_TOKEN=abcdefgh12345 is what I log\n", encoding="utf-8")
    here = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    hosts = {
        "here": here | {"wideep_address": "10.0.0.1"},
        "down": {"ansible_host": "127.0.0.1", "ansible_port": 1, "wideep_address": "10.0.0.2"},
    }
    groups = {"control": "here", "frontend": "here", "prefill": "here", "decode": "down"}
    own = yaml.safe_load((LOCAL / "group_vars" / "all.yml").read_text(encoding="utf-8"))
    own |= {
        "wideep_state_dir": str(state),
        "wideep_output_dir": str(out),
        "nats_install_method": "archive",
        "etcd_install_method": "archive",
    }
    children = {group: {"hosts": {host: None}} for group, host in groups.items()}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": own, "children": children}}))

    result = runner.run("bundle", str(inventory))
    result.raise_for_status()
    (archive,) = out.glob("wideep-bundle-wideep-*.tar.gz")
    assert str(archive) in result.data["wideep_summary"]
    with tarfile.open(archive) as bundle:
        bundle.extractall(tmp_path / "all", filter="data")
    contents = (tmp_path / "all" / "contents.txt").read_text(encoding="utf-8")
    assert "down: not reached" in contents
    assert "here: 3 files" in contents
    assert (tmp_path / "all" / "plan.json").stat().st_size > 1000
    with tarfile.open(tmp_path / "all" / "hosts" / "here.tar.gz") as found:
        assert set(found.getnames()) == {"system.txt", "packages.txt", "log/frontend.log"}
        log = found.extractfile("log/frontend.log")
        assert log
        assert log.read() == b"HF_TOKEN=*** is what I log\n"

"""The `wideep` command: real runs of small playbooks, in this process and once in a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pexpect
import pytest
from command import Command

INVENTORY = """
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  hosts:
    decode-0:
    prefill-0:
"""
SITE = """
- name: Deploy the workers
  hosts: all
  gather_facts: false
  tasks:
    - name: Install
      ansible.builtin.command: "true"
      changed_when: inventory_hostname == 'decode-0'
    - name: Optional
      ansible.builtin.fail: {msg: never mind}
      ignore_errors: true
      when: inventory_hostname == 'prefill-0'
    - name: Wait for the workers
      waiter:
        pause: "{{ pause | default(0) }}"
        fail: "{{ fail | default(omit) }}"
        unreachable: "{{ unreachable | default(false) }}"
    - name: Report
      ansible.builtin.set_stats:
        data: {wideep_summary: "Endpoint [bold]\\n  http://127.0.0.1:8000/v1\\n"}
      run_once: true
"""
PLAN = """
- name: Plan
  hosts: all
  gather_facts: false
  tasks:
    - name: Plan the deployment
      waiter:
        refuse: "{{ refuse | default(omit) }}"
    - name: Report
      ansible.builtin.set_stats:
        data:
          wideep_summary: "host      rank\\nprefill-0    0"
          wideep_data: {output: "{{ wideep_output | default('text') }}", port: "{{ port | default(1) }}"}
      run_once: true
"""
RENDER = """
- name: Render
  hosts: all
  gather_facts: false
  tasks:
    - name: Report
      ansible.builtin.set_stats:
        data: {wideep_summary: "rendered into {{ wideep_output_dir }}"}
      run_once: true
"""
WAITER = """
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        args, host = self._task.args, task_vars["inventory_hostname"]
        if args.get("unreachable"):
            raise AnsibleConnectionFailure(f"{host} is down")
        Display().display(f"{host}: waiting for its worker [1/2]")
        time.sleep(float(args.get("pause", 0)))
        if "refuse" in args:
            return {"failed": True, "msg": args["refuse"], "wideep_refused": True}
        if "fail" in args:
            return {"failed": True, "msg": args["fail"], "warnings": ["disk is nearly full"]}
        return {"changed": False, "warnings": ["disk is nearly full"]}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    playbooks = root / "playbooks"
    for directory in (root / "inventories" / "local", playbooks / "action_plugins"):
        directory.mkdir(parents=True)
    (root / "ansible.cfg").write_text("[defaults]\n")
    (root / "inventories" / "local" / "hosts.yml").write_text(INVENTORY)
    for name, text in {"site": SITE, "plan": PLAN, "render": RENDER}.items():
        (playbooks / f"{name}.yml").write_text(text)
    (playbooks / "action_plugins" / "waiter.py").write_text(WAITER)
    return root


@pytest.fixture
def wideep(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Call the command as the shell does, on the test's own project."""
    return Command(project, monkeypatch, capsys)


class TestVerbs:
    def test_up_prints_plain_lines_and_the_summary_as_it_is(self, wideep: Command) -> None:
        answer = wideep("up")
        assert answer.code == 0, answer.out
        lines = [re.sub(r"^\d+:\d\d", "T", line.rstrip()) for line in answer.out.splitlines()]
        assert [line for line in lines if line.startswith("T")] == [
            "T  == Deploy the workers",
            "T  Install",
            "T  Optional",
            "T  Wait for the workers",
            "T  Report",
        ]
        assert "      changed: decode-0" in lines
        assert "      ignored: prefill-0" in lines
        assert "      prefill-0: waiting for its worker [1/2]" in lines
        assert lines.count("      warning: disk is nearly full") == 1
        assert "  decode-0    3        1       0        0" in lines
        assert "wideep up: done after 0:" in answer.out
        assert answer.out.endswith("\nEndpoint [bold]\n  http://127.0.0.1:8000/v1\n")
        assert "\x1b" not in answer.out
        assert answer.err == ""

    def test_a_failed_host(self, wideep: Command) -> None:
        answer = wideep(
            "up", "-e", '{"fail": "no worker\\n  [log] boom\\nfix: restart"}', "-l", "decode-0", "-v"
        )
        assert answer.code == 2
        assert "      failed: decode-0: no worker\n" in answer.out
        message = "    no worker\n      [log] boom\n    fix: restart\n"
        assert f"  decode-0 · Wait for the workers\n{message}    at /" in answer.out
        assert "prefill-0: waiting" not in answer.out
        assert "fatal: [decode-0]: FAILED!" in answer.out  # -v: Ansible's own words

    def test_an_unreachable_host(self, wideep: Command) -> None:
        answer = wideep("up", "-e", "unreachable=true")
        assert answer.code == 4
        assert "      unreachable: decode-0: " in answer.out
        assert "decode-0 is down" in answer.out

    def test_plan_prints_its_table(self, wideep: Command, project: Path) -> None:
        answer = wideep("plan", "-i", str(project / "inventories" / "local"))
        assert answer.code == 0
        assert answer.out.endswith("\nhost      rank\nprefill-0    0\n")

    def test_plan_as_json_has_nothing_else_on_standard_output(self, wideep: Command) -> None:
        answer = wideep("plan", "--json", "-e", "port=8100")
        assert answer.code == 0
        assert json.loads(answer.out) == {"output": "json", "port": 8100}
        assert "wideep plan: done" in answer.err

    def test_refused_input(self, wideep: Command) -> None:
        answer = wideep("plan", "--json", "-e", "refuse=no decode group")
        assert answer.code == 3
        assert answer.out == ""
        assert "    no decode group\n" in answer.err

    def test_render_gets_an_absolute_directory(self, wideep: Command, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert wideep("render", "-o", "out").out.endswith(f"\nrendered into {tmp_path}/out\n")

    def test_timeout(self, wideep: Command) -> None:
        answer = wideep("up", "--timeout", "0")
        assert answer.code == 124
        assert "wideep up: timed out after" in answer.out


class TestTerminal:
    """The command in a pseudo-terminal."""

    def spawn(self, project: Path, *arguments: str) -> pexpect.spawn:
        start = (
            "from pathlib import Path; from wideep import cli, runner;"
            f"runner.project_root = lambda: Path({str(project)!r}); cli.main()"
        )
        # A terminal that can move its cursor, whatever the tests are run in.
        env = {**os.environ, "TERM": "xterm"}
        argv = ["-c", start, *arguments]
        return pexpect.spawn(
            sys.executable,
            argv,
            env=env,
            encoding="utf-8",
            dimensions=(30, 100),
            timeout=60,
            # A shell's background jobs ignore Ctrl-C, and what they start does, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def test_live_view(self, project: Path) -> None:
        child = self.spawn(project, "up", "-k", "-K", "--ask-vault-pass", "-e", "pause=1")
        child.expect("SSH password: ")
        child.sendline("open sesame")
        child.expect(r"BECOME password \[that of SSH\]: ")
        child.sendline("")
        child.expect("Vault password: ")
        child.sendline("open sesame")
        child.expect("starting Ansible")
        child.expect(r"tasks done · \d+:\d\d")
        child.expect("Deploy the workers > Wait for the workers")
        child.expect(r"\d+:\d\d  Wait for the workers")
        child.expect(r"prefill-0: waiting for its worker \[1/2\]")
        child.expect(r"wideep up: done after \d+:\d\d")
        child.expect_exact("Endpoint [bold]\r\n  http://127.0.0.1:8000/v1\r\n")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        assert "sesame" not in (child.before or "")

    def test_ctrl_c_ends_the_run_with_130(self, project: Path) -> None:
        child = self.spawn(project, "up", "-e", "pause=300")
        child.expect(r"waiting for its worker")
        child.sendintr()
        child.expect(r"wideep up: canceled after \d+:")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 130

    def test_ctrl_c_at_the_prompt(self, project: Path) -> None:
        child = self.spawn(project, "up", "--ask-vault-pass")
        child.expect("Vault password: ")
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 130

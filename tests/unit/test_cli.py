"""The `wideep` command: real runs of small playbooks, in this process and once in a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
from pathlib import Path

import pexpect
import pytest
from rich.console import Console

from wideep import cli, runner
from wideep.console.progress import LiveProgress, Progress, label, recap
from wideep.console.result import Events, Failure, HostStats, Result
from wideep.problems import RefusedError
from wideep.reports.text import clock

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
          wideep_table: "host      rank\\nprefill-0    0"
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


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def wideep(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command as the shell does, on the test's own project."""
    monkeypatch.setattr(runner, "project_root", lambda: project)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["wideep", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Answer(ended.value.code or 0, captured.out, captured.err)

    return call


class TestVerbs:
    def test_up_prints_plain_lines_and_the_summary_as_it_is(self, wideep) -> None:
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

    def test_a_failed_host(self, wideep) -> None:
        answer = wideep(
            "up", "-e", '{"fail": "no worker\\n  [log] boom\\nfix: restart"}', "-l", "decode-0", "-v"
        )
        assert answer.code == 2
        assert "      failed: decode-0: no worker\n" in answer.out
        message = "    no worker\n      [log] boom\n    fix: restart\n"
        assert f"  decode-0 · Wait for the workers\n{message}    at /" in answer.out
        assert "prefill-0: waiting" not in answer.out
        assert "fatal: [decode-0]: FAILED!" in answer.out  # -v: Ansible's own words

    def test_an_unreachable_host(self, wideep) -> None:
        answer = wideep("up", "-e", "unreachable=true")
        assert answer.code == 4
        assert "      unreachable: decode-0: " in answer.out
        assert "decode-0 is down" in answer.out

    def test_plan_prints_its_table(self, wideep, project: Path) -> None:
        answer = wideep("plan", "-i", str(project / "inventories" / "local"))
        assert answer.code == 0
        assert answer.out.endswith("\nhost      rank\nprefill-0    0\n")

    def test_plan_as_json_has_nothing_else_on_standard_output(self, wideep) -> None:
        answer = wideep("plan", "--json", "-e", "port=8100")
        assert answer.code == 0
        assert json.loads(answer.out) == {"output": "json", "port": 8100}
        assert "wideep plan: done" in answer.err

    def test_refused_input(self, wideep) -> None:
        answer = wideep("plan", "--json", "-e", "refuse=no decode group")
        assert answer.code == 3
        assert answer.out == ""
        assert "    no decode group\n" in answer.err

    def test_render_gets_an_absolute_directory(self, wideep, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert wideep("render", "-o", "out").out.endswith(f"\nrendered into {tmp_path}/out\n")

    def test_timeout(self, wideep) -> None:
        answer = wideep("up", "--timeout", "0")
        assert answer.code == 124
        assert "wideep up: timed out after" in answer.out


class TestInput:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["upp"], "Did you mean 'up'?"),
            (["up", "--zork"], "--zork"),
            (["up", "-o", "x"], "-o"),
            (["up", "-i", "nowhere"], "nowhere: no such inventory"),
            (["up", "-e", "@nowhere.yml"], "nowhere.yml: no such file"),
            (["status"], "unknown verb 'status'"),
        ],
    )
    def test_bad_input_ends_with_3(self, wideep, arguments: list[str], said: str) -> None:
        answer = wideep(*arguments)
        assert answer.code == 3
        assert said in answer.err
        assert answer.out == ""

    def test_all_bad_variables_at_once(self) -> None:
        with pytest.raises(RefusedError) as caught:
            cli.parse_extra_vars(["a b", "{x", "good=1", "1x=2"])
        assert [problem.where for problem in caught.value.problems] == ["-e a b", "-e {…}", "-e 1x"]

    def test_variables_keep_their_order(self) -> None:
        given = ["a=1", "@~/x.yml", '{"b": [1]}']
        assert cli.parse_extra_vars(given) == [{"a": 1}, Path.home() / "x.yml", {"b": [1]}]

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("true", True),
            ("No", False),
            ("8", 8),
            ("-3", -3),
            ("0.5", 0.5),
            ("null", None),
            ("[a, 2]", ["a", 2]),
            ("{a: 1}", {"a": 1}),
            ("[a", "[a"),
            ("1.10", "1.10"),
            ("0644", "0644"),
            ("1:30", "1:30"),
            ("2026-01-02", "2026-01-02"),
            ("a: b", "a: b"),
            ("x=y", "x=y"),
            ("", ""),
        ],
    )
    def test_values_are_typed(self, text: str, value: object) -> None:
        (parsed,) = cli.parse_extra_vars([f"k={text}"])
        assert parsed == {"k": value}
        assert isinstance(parsed, dict)
        assert type(parsed["k"]) is type(value)

    def test_version(self, wideep) -> None:
        answer = wideep("--version")
        assert answer.code == 0
        assert re.fullmatch(r"wideep \d+\.\d+\.\d+ \(ansible-core 2\.\d+\.\d+\)\n", answer.out)

    def test_help_tells_the_exit_codes(self, wideep) -> None:
        for arguments in (["--help"], ["up", "-h"]):
            answer = wideep(*arguments)
            assert answer.code == 0
            for code, text in cli.EXIT_CODES.items():
                assert f"{code} {text}" in " ".join(answer.out.split())

    def test_only_the_verbs_own_options(self, wideep) -> None:
        assert "--json" in wideep("plan", "--help").out
        assert "--json" not in wideep("up", "--help").out


def outcome(rc: int, *failures: Failure) -> Result:
    return Result(rc, "failed" if rc else "successful", {}, failures, {}, 1.0, Events(Path()), Path())


class TestExitCode:
    @pytest.mark.parametrize(
        ("result", "code"),
        [
            (outcome(0), 0),
            (outcome(1), 1),
            (outcome(250, Failure("", "", "", "bug", details={"wideep_refused": True})), 1),
            (outcome(4, Failure("a", "t", "", "m", unreachable=True)), 4),
            (outcome(4, Failure("a", "t", "", "m", unreachable=True), Failure("b", "t", "", "m")), 2),
        ],
    )
    def test_of_a_result(self, result: Result, code: int) -> None:
        assert cli.exit_code(result) == code


def event(kind: str, host: str = "", stdout: str = "", **data: object) -> runner.Event:
    return {"event": kind, "stdout": stdout, "event_data": {"host": host, **data} if host or data else {}}


class TestLive:
    """What the live view draws, without a run."""

    def drawn(self, view: LiveProgress) -> str:
        with view.console.capture() as capture:
            view.console.print(view)
        return capture.get()

    def view(self, height: int = 40, **options: int) -> LiveProgress:
        console = Console(file=io.StringIO(), width=90, height=height, force_terminal=True, color_system=None)
        view = LiveProgress(console, "wideep up · local", **options)
        assert "starting Ansible" in self.drawn(view)
        view(event("playbook_on_play_start", name="Deploy"))
        view(event("playbook_on_task_start", task="First", role="wideep.dynamo.nats"))
        view(event("playbook_on_task_start", task="nats : Install", role="wideep.dynamo.nats"))
        return view

    def test_what_runs_and_how_far_it_is(self) -> None:
        view = self.view()
        for host in ("node-1", "node-2"):
            view(event("runner_on_start", host, task="Install", role="nats"))
        view(event("runner_on_ok", "node-2", res={"changed": True}))
        view(event("verbose", stdout="node-1: [1/2] waiting\r\n"))
        text = self.drawn(view)
        assert "1 tasks done · 0:00" in text
        assert "Deploy > nats : Install\n" in text
        assert re.search(r"node-1 +0 +0 +0 +0:00  nats : Install", text)
        assert re.search(r"node-2 +1 +1 +0 *\n", text)
        assert "  node-1: [1/2] waiting\n" in text

        view(event("playbook_on_task_start", task="Next"))
        assert "waiting" not in self.drawn(view)

    def test_failures_show_their_first_lines(self) -> None:
        view = self.view()
        message = "\n".join(f"line {n}" for n in range(9))
        view(event("runner_on_failed", "node-1", task="Install", role="nats", res={"msg": message}))
        lines = [line.rstrip() for line in self.drawn(view).splitlines()]
        assert lines[-5:] == [
            "  node-1 · nats : Install",
            "    line 0",
            "    line 1",
            "    line 2",
            "    … 6 more lines",
        ]

    def test_many_hosts_show_the_failed_and_the_busy(self) -> None:
        view = self.view(height=20)
        for n in range(50):
            view(event("runner_on_start", f"node-{n:02}", task="Install"))
            if n < 47:
                view(event("runner_on_ok", f"node-{n:02}"))
        view(event("runner_on_failed", "node-49", task="Install", res={"msg": "boom"}))
        text = self.drawn(view)
        shown = re.findall(r"^ +(node-\d\d) +\d", text, re.MULTILINE)
        assert shown == ["node-49", "node-47", "node-48", "node-00", "node-01", "node-02"]
        assert "… and 44 more hosts" in text
        assert len(text.splitlines()) < 20

    def test_warnings_stay_above_the_view(self) -> None:
        view = self.view()
        view(event("warning", stdout="[WARNING]: clocks differ"))
        view(event("runner_on_file_diff", "node-1", stdout="- a\n+ b"))
        assert "[WARNING]: clocks differ\n" in view.console.file.getvalue()
        assert "      - a\n      + b\n" in view.console.file.getvalue()
        assert "clocks" not in self.drawn(view)

    def test_words(self) -> None:
        assert [clock(s) for s in (0, 59.9, 60, 3723)] == ["0:00", "0:59", "1:00", "1:02:03"]
        assert label("", "Task") == "Task"
        assert label("wideep.dynamo.etcd", "etcd : Start") == "etcd : Start"

    def test_plain_progress_needs_no_terminal(self) -> None:
        console = Console(file=io.StringIO(), width=40)
        with Progress(console, "t") as view:
            view(event("verbose", stdout="x" * 100))
        assert console.file.getvalue() == " " * 6 + "x" * 100 + "\n"

    def test_the_report_is_left_to_the_end(self) -> None:
        console = Console(file=io.StringIO(), width=80)
        with Progress(console, "t") as view:
            view(event("playbook_on_task_start", task="Show", task_action="wideep.dynamo.report"))
            view(event("verbose", stdout="HOST  SERVICE"))
            view(event("playbook_on_task_start", task="Next", task_action="ansible.builtin.debug"))
            view(event("verbose", stdout="waiting"))
        assert console.file.getvalue() == "0:00  Show\n0:00  Next\n      waiting\n"

    def test_recap_without_a_host(self) -> None:
        console = Console(file=io.StringIO(), width=80)
        recap(console, "wideep up", outcome(4, Failure("", "reading the input", "", "[bad] YAML")))
        assert "input · reading the input\n    [bad] YAML\n" in console.file.getvalue()

    def test_recap_in_full(self) -> None:
        console = Console(file=io.StringIO(), width=80)
        stats = {"a": HostStats(ok=2, rescued=1), "b": HostStats(unreachable=1)}
        recap(console, "t", Result(4, "canceled", stats, (), {}, 61, Events(Path()), Path()))
        lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
        assert lines[1:] == [
            "t: canceled after 1:01",
            "  host  ok  changed  failed  unreachable  rescued",
            "  a      2        0       0            0        1",
            "  b      0        0       0            1        0",
        ]


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
        child = self.spawn(project, "up", "--ask-vault-pass", "-e", "pause=1")
        child.expect("Vault password: ")
        child.sendline("open sesame")
        child.expect("starting Ansible")
        child.expect(r"tasks done · 0:0\d")
        child.expect("Deploy the workers > Wait for the workers")
        child.expect(r"0:0\d  Wait for the workers")
        child.expect(r"prefill-0: waiting for its worker \[1/2\]")
        child.expect("wideep up: done after 0:0")
        child.expect_exact("Endpoint [bold]\r\n  http://127.0.0.1:8000/v1\r\n")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        assert "sesame" not in (child.before or "")

    def test_ctrl_c_ends_the_run_with_130(self, project: Path) -> None:
        child = self.spawn(project, "up", "-e", "pause=300")
        child.expect(r"waiting for its worker")
        child.sendintr()
        child.expect("wideep up: canceled after 0:")
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

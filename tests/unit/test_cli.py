"""The `wideep` command without a run: its input, its exit codes, what it draws of events."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from command import Command
from rich.console import Console

from wideep import cli, runner
from wideep.console import progress
from wideep.console.progress import LiveProgress, Progress, label, recap
from wideep.console.result import Events, Failure, HostStats, Result
from wideep.problems import RefusedError
from wideep.reports.text import clock


@pytest.fixture
def wideep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Call the command as the shell does, on a project with two verbs and an inventory that nobody reads."""
    names = ("ansible.cfg", "inventories/local/hosts.yml", "playbooks/plan.yml", "playbooks/site.yml")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return Command(tmp_path, monkeypatch, capsys)


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
    def test_bad_input_ends_with_3(self, wideep: Command, arguments: list[str], said: str) -> None:
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

    def test_version(self, wideep: Command) -> None:
        answer = wideep("--version")
        assert answer.code == 0
        assert re.fullmatch(r"wideep \d+\.\d+\.\d+ \(ansible-core 2\.\d+\.\d+\)\n", answer.out)

    def test_help_tells_the_exit_codes(self, wideep: Command) -> None:
        for arguments in (["--help"], ["up", "-h"]):
            answer = wideep(*arguments)
            assert answer.code == 0
            for code, text in cli.EXIT_CODES.items():
                assert f"{code} {text}" in " ".join(answer.out.split())

    def test_the_bare_command_is_a_question_for_help(self, wideep: Command) -> None:
        answer = wideep()
        assert (answer.code, answer.err) == (0, "")
        assert all(verb.help.split(":")[0].split(",")[0] in answer.out for verb in cli.VERBS)

    def test_completion(self, wideep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "_WIDEEP_COMPLETE" in wideep("--show-completion", "bash").out
        monkeypatch.setenv("_WIDEEP_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "wideep pre")
        monkeypatch.setenv("COMP_CWORD", "1")
        assert wideep().out == "preflight\n"

    def test_names_are_those_of_what_restarts(self, wideep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[Any] = []

        def fake(playbook: str, *_: Any, extra_vars: Any, **__: Any) -> Result:
            given.append((playbook, extra_vars))
            return outcome(0)

        monkeypatch.setattr(runner, "run", fake)
        assert wideep("restart", "decode-1", "frontend@a", "-i", "a,").code == 0
        assert given == [("restart", [{"wideep_restart": ["decode-1", "frontend@a"]}])]
        assert wideep("up", "decode-1").code == 3

    def test_only_the_verbs_own_options(self, wideep: Command) -> None:
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
            (outcome(2, Failure("a", "t", "", "m", details={"wideep_unhealthy": True})), 5),
        ],
    )
    def test_of_a_result(self, result: Result, code: int) -> None:
        assert cli.exit_code(result) == code


class TestConfirmation:
    """A removal that wants a name: asked on a terminal only."""

    QUESTION = Failure(
        "a",
        "t",
        "",
        "m",
        details={"wideep_refused": True, "wideep_confirm": {"name": "chat", "question": "chat goes"}},
    )

    def run(
        self, monkeypatch: pytest.MonkeyPatch, answer: str | None, *options: str
    ) -> tuple[int, list[Any]]:
        """Run `down`, an answer typed on a terminal; return the exit code and what each run was given."""
        runs: list[Any] = []

        def fake(*_: Any, extra_vars: Any, **__: Any) -> Result:
            given = {name: value for item in extra_vars for name, value in item.items()}
            runs.append(given.get("wideep_confirm"))
            return outcome(0) if given.get("wideep_confirm") in {"chat", True} else outcome(2, self.QUESTION)

        monkeypatch.setattr(runner, "run", fake)
        monkeypatch.setattr(cli.sys.stdin, "isatty", lambda: answer is not None, raising=False)
        monkeypatch.setattr(Console, "is_terminal", answer is not None)
        monkeypatch.setattr(cli.typer, "prompt", lambda *_, **__: answer)
        verb = next(verb for verb in cli.VERBS if verb.name == "down")
        options_ = cli.Options(inventory=["a,"], plain=True, yes="--yes" in options)
        return cli.execute(verb, options_), runs

    def test_the_name_typed_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(monkeypatch, "chat") == (0, [None, "chat"])

    def test_another_word_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(monkeypatch, "y") == (3, [None])

    def test_a_script_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(monkeypatch, None) == (3, [None])

    def test_yes_asks_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(monkeypatch, None, "--yes") == (0, [True])


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
            view(event("runner_on_ok", "a"))
            view(event("playbook_on_task_start", task="Next", task_action="ansible.builtin.debug"))
            view(event("verbose", stdout="waiting"))
        assert console.file.getvalue() == "0:00  Show\n0:00  Next\n      waiting\n"

    def test_plays_and_tasks_that_do_nothing_are_not_shown(self) -> None:
        console = Console(file=io.StringIO(), width=80)
        with Progress(console, "t") as view:
            view(event("playbook_on_play_start", name="Nobody"))
            view(event("playbook_on_play_start", name="Deploy"))
            view(event("playbook_on_task_start", task="Skipped"))
            view(event("runner_on_skipped", "a"))
            view(event("playbook_on_task_start", task="Include", task_action="ansible.builtin.include_role"))
            view(event("runner_on_ok", "a"))
            silent = "ansible.builtin.validate_argument_spec"
            view(event("playbook_on_task_start", task="Validate", task_action=silent))
            view(event("runner_on_ok", "a"))
            view(event("playbook_on_task_start", task="Install", role="wideep.dynamo.nats"))
            view(event("runner_on_skipped", "a"))
            view(event("runner_on_ok", "b"))
            view(event("playbook_on_task_start", task="Skipped, too"))
        assert console.file.getvalue() == "0:00  == Deploy\n0:00  nats : Install\n"

    def test_a_task_that_takes_its_time_is_shown_before_its_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "SLOW_S", 0.05)
        console = Console(file=io.StringIO(), width=80)
        with Progress(console, "t") as view:
            view(event("playbook_on_task_start", task="Wait"))
            for _ in range(100):
                if console.file.getvalue():
                    break
                time.sleep(0.05)
            assert console.file.getvalue() == "0:00  Wait\n"
            view(event("runner_on_ok", "a"))
        assert console.file.getvalue() == "0:00  Wait\n"

    def test_a_refusal_is_told_once(self) -> None:
        console = Console(file=io.StringIO(), width=80)
        refused = {"msg": "nothing was changed: 1 problem\n  fix it", "wideep_refused": True}
        with Progress(console, "t") as view:
            view(event("playbook_on_task_start", task="Plan"))
            view(event("runner_on_failed", "a", task="Plan", task_path="/x.yml:2", res=refused))
        recap(console, "t", outcome(2, view.tally.failures[0]))
        text = console.file.getvalue()
        assert "      failed: a\n" in text
        assert "t: refused after" in text
        assert text.count("nothing was changed") == text.count("fix it") == 1
        assert "/x.yml" not in text

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
            "  what is done stays done: run the same command again to finish it",
        ]

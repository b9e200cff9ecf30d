"""Playbooks run for real through ansible-runner, against names that all are this machine."""

from __future__ import annotations

import gc
import os
import re
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import alive
from waiting import until

from wideep import runner
from wideep.console.result import HostStats, RunError, Tally

HOSTS = """
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  hosts:
    c:
    a:
    b:
"""

# One playbook with every outcome, so that most tests need no run of their own.
MIXED = """
- name: Mixed
  hosts: all
  gather_facts: false
  tasks:
    - name: Publish
      ansible.builtin.set_stats:
        data: {wideep_summary: "first\\n  second", wideep_data: {port: "{{ port }}", tls: "{{ tls }}"}}
      run_once: true
    - name: Change
      ansible.builtin.command: "true"
      changed_when: inventory_hostname == 'a'
    - name: Rescued
      when: inventory_hostname == 'a'
      block:
        - name: Fails and is rescued
          ansible.builtin.fail: {msg: nobody sees me}
      rescue:
        - name: Rescue
          ansible.builtin.debug: {msg: fine}
    - name: Ignored
      ansible.builtin.fail: {msg: nor me}
      ignore_errors: true
      when: inventory_hostname == 'a'
    - name: Loop
      ansible.builtin.command: sh -c 'echo why-{{ item }} >&2; exit {{ item }}'
      loop: [0, 3]
      when: inventory_hostname == 'b'
      changed_when: false
    - name: Role
      ansible.builtin.include_role: {name: speaker}
      when: inventory_hostname == 'c'
- name: A host that cannot be reached
  hosts: a
  gather_facts: false
  tasks:
    - name: Reach
      ansible.builtin.command: "true"
      vars: {ansible_connection: gone}
"""
SPEAKER = """
- name: Say what is wrong
  ansible.builtin.fail:
    msg: |
      port 8000 is in use
        by python (pid 7)
      fix: stop it
"""
GONE = """
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = "name: gone\\nshort_description: never there\\ndescription: [never there]\\noptions: {}"


class Connection(ConnectionBase):
    transport = "gone"

    def _connect(self):
        raise AnsibleConnectionFailure("no route to node a")

    def exec_command(self, *args, **kwargs):
        self._connect()

    put_file = fetch_file = exec_command

    def close(self):
        pass
"""


ASKER = """
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        context = self._play_context
        right = (context.password, context.become_pass) == ("c0nnect", "bec0me")
        return {"ansible_stats": {"data": {"right": right}, "per_host": False, "aggregate": False}}
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def play(*tasks: str, hosts: str = "all") -> str:
    body = "".join(f"    - {task}\n" for task in tasks)
    return f"- name: Test\n  hosts: {hosts}\n  gather_facts: false\n  tasks:\n{body}"


def locked(text: str) -> str:
    from ansible.parsing.vault import VaultLib, VaultSecret

    return VaultLib([("default", VaultSecret(b"open sesame"))]).encrypt(text.encode()).decode()


PUBLISH = "ansible.builtin.set_stats: {{data: {0}, aggregate: false}}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write(root / "ansible.cfg", "[defaults]\nhost_key_checking = True\nfact_caching = memory\nforks = 7\n")
    write(root / "inventories" / "local" / "hosts.yml", HOSTS)
    write(root / "playbooks" / "mixed.yml", MIXED)
    write(root / "playbooks" / "roles" / "speaker" / "tasks" / "main.yml", SPEAKER)
    write(root / "playbooks" / "connection_plugins" / "gone.py", GONE)
    return root


@pytest.fixture(scope="module")
def inventory(project: Path) -> Path:
    return project / "inventories" / "local"


@pytest.fixture(scope="module")
def mixed(project: Path, inventory: Path) -> runner.Result:
    variables = {"port": 8100, "tls": True}
    return runner.run("mixed", inventory, extra_vars=variables, project_dir=project)


class TestResult:
    def test_outcome(self, mixed: runner.Result) -> None:
        assert (mixed.status, mixed.rc) == ("failed", 4)  # Ansible's code for the last play
        assert mixed.duration_s > 0

    def test_stats_are_those_of_ansibles_recap_in_the_inventorys_order(self, mixed: runner.Result) -> None:
        assert list(mixed.stats) == ["c", "a", "b"]
        assert mixed.stats["a"] == HostStats(
            ok=3, changed=1, unreachable=1, failed=0, skipped=2, rescued=1, ignored=1
        )
        assert mixed.stats["b"].failed == mixed.stats["c"].failed == 1

    def test_failures_are_only_those_that_nobody_rescued_or_ignored(self, mixed: runner.Result) -> None:
        assert {(f.host, f.task, f.unreachable) for f in mixed.failures} == {
            ("b", "Loop", False),
            ("c", "Say what is wrong", False),
            ("a", "Reach", True),
        }

    def test_the_operators_message_keeps_its_lines(self, mixed: runner.Result) -> None:
        failure = next(f for f in mixed.failures if f.host == "c")
        assert failure.message == "port 8000 is in use\n  by python (pid 7)\nfix: stop it"
        assert failure.role == "speaker"
        assert failure.path.endswith("speaker/tasks/main.yml:2")
        assert failure.details["changed"] is False
        assert not failure.refused

    def test_a_failed_loop_names_item_and_error_output(self, mixed: runner.Result) -> None:
        failure = next(f for f in mixed.failures if f.host == "b")
        # The words before it differ between versions of Ansible.
        assert re.fullmatch(r"3: .*non-zero return code\.?\nwhy-3", failure.message)

    def test_unreachable_says_why(self, mixed: runner.Result) -> None:
        assert "no route to node a" in next(f for f in mixed.failures if f.unreachable).message

    def test_data_has_what_the_playbook_published_with_its_types(self, mixed: runner.Result) -> None:
        assert mixed.data == {
            "wideep_summary": "first\n  second",
            "wideep_data": {"port": 8100, "tls": True},
        }

    def test_events_can_be_read_again_in_order(self, mixed: runner.Result) -> None:
        first = [event["counter"] for event in mixed.events]
        assert first == sorted(first)
        assert len(first) > 30
        assert [event["counter"] for event in mixed.events] == first

    def test_raise_for_status_tells_every_failure(self, mixed: runner.Result) -> None:
        with pytest.raises(RunError, match=r"failed \(exit code 4\)") as caught:
            mixed.raise_for_status()
        assert caught.value.result is mixed
        assert "c: Say what is wrong\nport 8000 is in use\n" in str(caught.value)

    def test_the_private_directory_is_ours_alone_and_has_no_secrets(self, mixed: runner.Result) -> None:
        assert stat.S_IMODE(mixed.private_dir.stat().st_mode) == 0o700
        assert not (mixed.private_dir / "secrets").exists()
        assert not list(mixed.private_dir.rglob("command"))

    def test_counts_without_an_end_come_from_the_events(self, mixed: runner.Result) -> None:
        tally = Tally()
        for event in mixed.events:
            if event["event"] != "playbook_on_stats":
                tally.add(event)
        counted = tally.stats()
        assert counted["a"] == HostStats(ok=3, changed=1, unreachable=1, failed=1, skipped=2, ignored=1)
        assert counted["b"].failed == 1
        assert tally.data == {}


class TestRun:
    def test_variables_travel_in_files_in_their_order_and_never_on_the_command_line(
        self, project: Path, inventory: Path, tmp_path: Path
    ) -> None:
        published = PUBLISH.format("{first: '{{ a }}', second: '{{ b }}', check: '{{ ansible_check_mode }}'}")
        playbook = write(tmp_path / "vars.yml", play(published, hosts="a"))
        overriding = write(tmp_path / "more.yml", locked("b: from the file\n"))
        seen: list[str] = []
        modes: set[int] = set()

        def look(event: runner.Event) -> None:
            if event["event"] == "playbook_on_start":
                argv = Path(f"/proc/{event['pid']}/cmdline").read_text().split("\0")
                seen.extend(argv)
                files = [Path(a[1:]) for a in argv if a.startswith("@") and "secrets" in a]
                modes.update(stat.S_IMODE(file.stat().st_mode) for file in files)

        result = runner.run(
            playbook,
            str(inventory),
            extra_vars=[{"a": "hush-hush", "b": "first"}, overriding],
            limit="a",
            tags="all",
            forks=2,
            check=True,
            diff=True,
            verbosity=1,
            vault_password_file=write(tmp_path / "password", "open sesame\n"),
            on_event=look,
            project_dir=project,
        )
        result.raise_for_status()
        assert result.data == {"first": "hush-hush", "second": "from the file", "check": True}
        assert {"--limit", "--tags", "--forks", "--check", "--diff", "-v"} <= set(seen)
        assert "hush" not in " ".join(seen)
        assert modes == {0o600}

    def test_vault_password(self, project: Path, inventory: Path, tmp_path: Path) -> None:
        variables = write(tmp_path / "vault.yml", locked("token: t0k3n\n"))
        playbook = write(tmp_path / "v.yml", play(PUBLISH.format("{token: '{{ token }}'}"), hosts="a"))
        result = runner.run(
            playbook, inventory, extra_vars=[variables], vault_password="open sesame", project_dir=project
        )
        assert result.data == {"token": "t0k3n"}, result.failures

    @pytest.mark.parametrize("in_files", [False, True])
    def test_passwords_of_connections_and_become(
        self, project: Path, inventory: Path, tmp_path: Path, in_files: bool
    ) -> None:
        """Ansible gives them to connections; command line, environment and events have none."""
        given = {"connection": "c0nnect", "become": "bec0me"}
        if in_files:
            files = {kind: write(tmp_path / kind, f"{text}\n") for kind, text in given.items()}
            passwords = {f"{kind}_password_file": str(file) for kind, file in files.items()}
        else:
            passwords = {f"{kind}_password": text for kind, text in given.items()}
        playbook = write(tmp_path / "asks.yml", play("{name: Ask, asker: }", hosts="a"))
        write(tmp_path / "action_plugins" / "asker.py", ASKER)
        seen = ""

        def look(event: runner.Event) -> None:
            nonlocal seen
            seen += str(event)
            for part in ("cmdline", "environ") if event["event"] == "playbook_on_start" else ():
                seen += Path(f"/proc/{event['pid']}/{part}").read_text()

        result = runner.run(
            playbook,
            inventory,
            limit=["a"],
            on_event=look,
            project_dir=project,
            keep=True,
            **passwords,  # type: ignore[arg-type]
        )
        assert result.data == {"right": True}, result.failures
        kept = "".join(p.read_text(errors="replace") for p in result.private_dir.rglob("*") if p.is_file())
        assert not any(text in seen + kept for text in given.values())

    def test_the_projects_settings_hold_and_ours_stay_as_they_are(
        self, project: Path, inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = ("HOST_KEY_CHECKING", "CACHE_PLUGIN", "DEFAULT_FORKS")
        data = ", ".join(f"{n}: \"{{{{ lookup('ansible.builtin.config', '{n}') }}}}\"" for n in names)
        playbook = write(tmp_path / "config.yml", play(PUBLISH.format("{" + data + "}"), hosts="a"))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setenv("PATH", "/usr/bin:/bin")  # without the virtual environment
        monkeypatch.delenv("ANSIBLE_CONFIG", raising=False)
        before = dict(os.environ)
        handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        result = runner.run(playbook, inventory, project_dir=project, keep=True)
        assert result.data == {"HOST_KEY_CHECKING": True, "CACHE_PLUGIN": "memory", "DEFAULT_FORKS": 7}
        assert dict(os.environ) == before
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers

        kept = result.private_dir
        del result
        gc.collect()
        assert kept.is_dir()
        assert not (kept / "secrets").exists()

    def test_threads_do_not_disturb_each_other(
        self, project: Path, inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        playbook = write(tmp_path / "who.yml", play(PUBLISH.format("{who: '{{ who }}'}"), hosts="a"))
        before = dict(os.environ)
        results: dict[int, runner.Result] = {}

        def one(number: int) -> None:
            results[number] = runner.run(playbook, inventory, extra_vars={"who": number}, project_dir=project)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {number: result.data["who"] for number, result in results.items()} == {0: 0, 1: 1}
        directories = [result.private_dir for result in results.values()]
        assert len(set(directories)) == 2
        assert dict(os.environ) == before
        results.clear()
        gc.collect()
        assert not any(directory.exists() for directory in directories)

    def test_an_installed_collection_finds_its_own_roles(self, tmp_path: Path) -> None:
        root = tmp_path / "ansible_collections" / "wideep" / "dynamo"
        write(root / "galaxy.yml", "namespace: wideep\nname: dynamo\nversion: 0.1.0\n")
        task = "- name: Tell\n  ansible.builtin.set_stats: {data: {came_from: collection}}\n"
        write(root / "roles" / "teller" / "tasks" / "main.yml", task)
        write(root / "ansible.cfg", "[defaults]\ncollections_path = .collections\n")
        role = "ansible.builtin.import_role: {name: wideep.dynamo.teller}"
        write(root / "playbooks" / "site.yml", play(role))
        result = runner.run(
            "site", "localhost,", extra_vars={"ansible_connection": "local"}, project_dir=root
        )
        assert result.data == {"came_from": "collection"}, result.failures


def sleeper(pids: Path) -> str:
    """A task that sleeps in two processes, one of them a shell's background job, and writes who they are."""
    script = f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; sleep 600"
    return f"{{name: Sleep, ansible.builtin.shell: '{script}'}}"


class TestEnd:
    """Runs that are ended from outside leave no process behind."""

    @pytest.fixture
    def pids(self, tmp_path: Path) -> Path:
        """The file in which the sleeping processes are named as soon as they sleep."""
        return tmp_path / "pids"

    @pytest.fixture
    def slow(self, tmp_path: Path, pids: Path) -> Path:
        return write(
            tmp_path / "slow.yml", play("ansible.builtin.debug: {msg: go}", sleeper(pids), hosts="a")
        )

    @contextmanager
    def when_asleep(self, pids: Path, then: Callable[[], object]) -> Iterator[None]:
        """Do something as soon as the run in the block sleeps; nothing of that run may be left afterwards."""

        def watch() -> None:
            until("it sleeps", pids.exists)
            then()

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            yield
            watching.result()
        until("nothing is left", lambda: not any(map(alive, map(int, pids.read_text().split()))))

    def test_cancel(self, project: Path, inventory: Path, slow: Path, pids: Path) -> None:
        cancel = threading.Event()
        with self.when_asleep(pids, cancel.set):
            result = runner.run(slow, inventory, cancel=cancel, project_dir=project)
        assert (result.status, result.rc) == ("canceled", 130)
        assert result.stats["a"] == HostStats(ok=1)

    @pytest.fixture
    def killed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Get an entry for each time that Ansible's workers are killed."""
        times: list[str] = []
        kill = runner._Stop._kill_workers
        monkeypatch.setattr(runner._Stop, "_kill_workers", lambda stop: (times.append("killed"), kill(stop)))
        return times

    @pytest.mark.parametrize("times", [1, 2])
    def test_signal(self, project: Path, slow: Path, pids: Path, killed: list[str], times: int) -> None:
        def interrupt() -> None:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.02)

        with self.when_asleep(pids, interrupt):
            result = runner.run(slow, project / "inventories" / "local", project_dir=project)
        assert (result.status, result.rc) == ("canceled", 130)
        assert times == 2 or not killed, "the first signal lets Ansible end by itself"

    def test_timeout(
        self, project: Path, inventory: Path, slow: Path, pids: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late = [0.0]
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late[0])
        monkeypatch.setattr(runner, "time", clock)
        with self.when_asleep(pids, lambda: late.__setitem__(0, 1000.0)):
            result = runner.run(slow, inventory, timeout_s=900, project_dir=project)
        assert (result.status, result.rc) == ("timeout", 124)
        assert result.duration_s > 900

    def test_timeout_before_ansible_says_anything(self, project: Path, inventory: Path, slow: Path) -> None:
        result = runner.run(slow, inventory, timeout_s=0, project_dir=project)
        assert (result.status, result.stats, result.failures) == ("timeout", {}, ())

    def test_ansible_that_does_not_react_is_killed(
        self, project: Path, inventory: Path, slow: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "GRACE_S", 0.5)
        cancel = threading.Event()
        pids: list[int] = []

        def freeze(event: runner.Event) -> None:
            if event["event"] == "playbook_on_start":
                pids.append(event["pid"])
                os.kill(event["pid"], signal.SIGSTOP)
                cancel.set()

        result = runner.run(slow, inventory, cancel=cancel, on_event=freeze, project_dir=project)
        assert result.status == "canceled"
        assert not Path(f"/proc/{pids[0]}").exists()

    def test_what_on_event_raises_ends_the_run_and_comes_out(
        self, project: Path, inventory: Path, slow: Path, pids: Path
    ) -> None:
        calls = []

        def fail(event: runner.Event) -> None:
            calls.append(event)
            raise LookupError("bug of the caller")

        with pytest.raises(LookupError, match="bug of the caller"):
            runner.run(slow, inventory, on_event=fail, project_dir=project)
        assert len(calls) == 1
        assert not pids.exists()


class TestRefused:
    def test_a_syntax_error_is_told_with_its_place(
        self, project: Path, inventory: Path, tmp_path: Path
    ) -> None:
        playbook = write(tmp_path / "bad.yml", "- hosts: all\n  tasks: [\n")
        (failure,) = runner.run(playbook, inventory, project_dir=project).failures
        assert failure.refused
        assert failure.message.startswith("YAML parsing failed")
        assert "bad.yml:3" in failure.message
        assert "\x1b" not in failure.message

    def test_no_host_left(self, project: Path, inventory: Path) -> None:
        result = runner.run("mixed", inventory, limit="zebra", project_dir=project)
        assert result.status == "failed"
        assert result.failures[0].refused
        assert "no hosts to target" in result.failures[0].message

"""Downloads of a model for real: processes, servers on loopback that break, huggingface_hub, boto3."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import model_download
from ansible_collections.wideep.dynamo.plugins.module_utils.model_job import Job
from ansible_collections.wideep.dynamo.plugins.modules import model_download as module
from environments import installed
from modules import call_module
from places import REPOSITORY
from waiting import until

TOKEN = "hf_" + "s3cret" * 5
COMMIT = "0123456789abcdef" * 2 + "01234567"


def safetensors(size: int, fill: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes([fill]) * size


FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}" * 600,
    "a.safetensors": safetensors(3_000_000, 1),
    "b.safetensors": safetensors(1_000_000, 2),
    "pytorch_model.bin": b"pickle",
}
WANTED = {name: data for name, data in FILES.items() if not name.endswith(".bin")}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files` at /model, as a hub, and as a bucket; misbehaves as told. `log`: method, path, Range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.sums = "".join(f"{sha(d)}  ./{n}\n" for n, d in FILES.items())
        self.log: list[tuple[str, str, str]] = []
        self.authorizations: list[str] = []
        self.break_after: dict[str, int] = {}  # once
        self.hold = threading.Event()  # cleared: big files stop in the middle
        self.hold.set()
        self.require = ""  # a header Authorization must start so
        self.ranges = True
        self.elsewhere = ""  # the hub leads large files there
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ranges_of(self, name: str) -> list[str]:
        return [r for method, path, r in self.log if method == "GET" and path.endswith(f"/{name}")]


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:  # noqa: PLR0911
        server, parts = self.server, urlsplit(self.path)
        path = unquote(parts.path)
        asked = self.headers.get("Range") or ""
        given = self.headers.get("Authorization") or ""
        server.log.append((self.command, path, asked))
        server.authorizations.append(given)
        if not given.startswith(server.require):
            return self.reply(401, b"who are you?")
        if path.startswith("/api/models/"):
            return self.hub(path)
        if path == "/bucket" and "list-type" in parse_qs(parts.query):
            return self.bucket(parse_qs(parts.query)["prefix"][0])
        name = path.rpartition("/")[2]
        if "/resolve/" in path and server.elsewhere and name.endswith(".safetensors"):
            return self.reply(302, b"", Location=f"{server.elsewhere}/model/{name}")
        data = server.sums.encode() if name == "SHA256SUMS" and server.sums else server.files.get(name)
        if data is None:
            return self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        start = int(asked.split("=")[1].split("-")[0]) if asked and server.ranges else 0
        if start and start >= len(data):
            return self.reply(416, b"")
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        self.reply(206 if asked and server.ranges else 200, data[start:], name, **headers)
        return None

    def reply(self, status: int, body: bytes, name: str = "", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = self.server.break_after.pop(name, None)
        if stop is not None:
            self.wfile.write(body[:stop])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        middle = len(body) // 2 if len(body) > 100_000 else len(body)
        try:
            self.wfile.write(body[:middle])
            self.wfile.flush()
            if middle < len(body):
                self.server.hold.wait(60)
            self.wfile.write(body[middle:])
        except OSError:
            self.close_connection = True  # the client was killed

    def hub(self, path: str) -> None:
        match = re.fullmatch(r"/api/models/org/model/revision/(\w+)", path)
        if not match or match[1] != COMMIT:
            return self.reply(404, b"{}")
        siblings = []
        for name, data in self.server.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(FILES[name])}
            original = FILES[name]
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(original) + original).hexdigest()
            if len(data) > 100_000:
                entry["lfs"] = {"sha256": sha(original), "size": len(original), "pointerSize": 134}
            siblings.append(entry)
        body = {"id": "org/model", "modelId": "org/model", "sha": COMMIT, "siblings": siblings, "tags": []}
        self.reply(200, json.dumps(body).encode(), **{"Content-Type": "application/json"})
        return None

    def bucket(self, prefix: str) -> None:
        sizes = {n: len(d) for n, d in self.server.files.items()}
        if self.server.sums:
            sizes["SHA256SUMS"] = len(self.server.sums)
        entries = "".join(
            f"<Contents><Key>{prefix}{name}</Key><Size>{size}</Size></Contents>"
            for name, size in sizes.items()
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        self.reply(200, text.encode(), **{"Content-Type": "application/xml"})


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.hold.set()
    one.shutdown()
    one.server_close()


class Host:
    """A host: its directory for the download's files, and calls of the module as Ansible makes them."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str = "gpu-1") -> None:
        self.capsys, self.name = capsys, name
        self.job_dir = tmp_path / name / "model-download"
        self.model = tmp_path / "model"

    def call(self, **given: Any) -> dict[str, Any]:
        arguments = {
            "path": str(self.model),
            "job_dir": str(self.job_dir),
            "host": self.name,
            "slice_s": 0,
            "exclude": ["*.bin"],
            "parallel": 2,
            "python": sys.executable,
            **given,
        }
        arguments["_ansible_check_mode"] = arguments.pop("check", False)
        result: dict[str, Any] = call_module(module, arguments, self.capsys)
        return result

    def run(self, **given: Any) -> dict[str, Any]:
        """As the action plugin does: start, then wait for the end."""
        result = self.call(**given)
        while result.get("state") == "running":
            result = self.call(**{**given, "attach": True, "slice_s": 30})
        return result

    @property
    def parts(self) -> Path:
        return self.model / ".wideep" / "partial"

    def content(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.model.iterdir() if p.is_file()}

    def wait_for_part(self, name: str) -> None:
        file = self.parts / name
        try:
            until(f"a part of {name} is there", lambda: file.exists() and file.stat().st_size >= 100_000)
        except AssertionError:
            print((self.job_dir / "download.log").read_text())
            raise


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Host]:
    one = Host(tmp_path, capsys)
    yield one
    Job(one.job_dir).stop()


def kill(host: Host) -> None:
    """Kill the download and wait until it is gone: a run before that attaches to it, and fails with it."""
    job = Job(host.job_dir)
    os.kill(job.pid(), signal.SIGKILL)
    until("the download is gone", lambda: not job.pid())


def mirror(server: Server) -> dict[str, Any]:
    return {"source": "http", "url": f"{server.url}/model"}


# ---- HTTP -----------------------------------------------------------------------------------------


def test_a_mirror_is_copied_once(server: Server, host: Host) -> None:
    assert host.call(**mirror(server), check=True)["changed"]
    assert not host.model.exists()
    first = host.run(**mirror(server))
    assert (first.get("msg"), first["changed"], first["state"]) == (None, True, "complete")
    assert host.content() == WANTED
    assert first["model"]["truncated"] == first["model"]["missing"] == []
    assert not host.parts.exists()
    asked = len(server.log)
    assert not host.run(**mirror(server))["changed"]
    assert not host.call(**mirror(server), check=True)["changed"]
    assert len(server.log) == asked, "a complete directory costs no request"


def test_a_broken_connection_goes_on_where_it_was(server: Server, host: Host) -> None:
    server.break_after["a.safetensors"] = 1_234_567
    assert host.run(**mirror(server))["changed"]
    assert host.content() == WANTED
    assert server.ranges_of("a.safetensors") == ["", "bytes=1234567-"]


def test_a_server_without_ranges_sends_all_again(server: Server, host: Host) -> None:
    server.break_after["a.safetensors"] = 1_234_567
    server.ranges = False
    assert host.run(**mirror(server))["changed"]
    assert host.content() == WANTED


def test_a_killed_download_is_continued(server: Server, host: Host) -> None:
    server.hold.clear()
    assert host.call(**mirror(server))["state"] == "running"
    host.wait_for_part("a.safetensors")
    pid = Job(host.job_dir).pid()
    os.kill(pid, signal.SIGKILL)
    failed = host.call(**mirror(server), attach=True, slice_s=10)
    assert "ended without a word" in failed["msg"]
    assert not {"a.safetensors", "b.safetensors"} & set(host.content()), "never seen half there"
    server.hold.set()
    assert host.run(**mirror(server))["changed"]
    assert host.content() == WANTED
    start = int(server.ranges_of("a.safetensors")[1].removeprefix("bytes=").rstrip("-"))
    assert start >= 100_000


def test_a_run_finds_the_download_of_the_one_before(server: Server, host: Host) -> None:
    server.hold.clear()
    host.call(**mirror(server))
    host.wait_for_part("a.safetensors")
    pid = Job(host.job_dir).pid()
    again = host.call(**mirror(server), slice_s=1.5)
    assert (again["state"], Job(host.job_dir).pid()) == ("running", pid)
    assert again["progress"]["state"] == "downloading"
    assert 0 < again["progress"]["done"] < again["progress"]["total"] == sum(map(len, WANTED.values()))
    assert host.call(state="absent")["changed"]
    assert Job(host.job_dir).pid() == 0
    assert host.parts.is_dir(), "what was fetched stays"
    assert "stopped from outside" in Job(host.job_dir).status()["message"]


def test_a_corrupt_file_is_named_and_not_published(server: Server, host: Host) -> None:
    bad = bytearray(FILES["b.safetensors"])
    bad[500_000] ^= 1
    server.files["b.safetensors"] = bytes(bad)
    failed = host.run(**mirror(server))
    for text in (
        "b.safetensors",
        f"sha256:{sha(bytes(bad))}",
        f"expected sha256:{sha(FILES['b.safetensors'])}",
    ):
        assert text in failed["msg"]
    assert "b.safetensors" not in host.content()
    server.files["b.safetensors"] = FILES["b.safetensors"]
    before = len(server.ranges_of("a.safetensors"))
    assert host.run(**mirror(server))["changed"]
    assert len(server.ranges_of("a.safetensors")) == before or "a.safetensors" not in failed
    assert host.content() == WANTED


def test_a_part_of_another_file_is_fetched_anew(server: Server, host: Host) -> None:
    host.parts.mkdir(parents=True)
    (host.parts / "a.safetensors").write_bytes(b"x" * 1000)
    assert host.run(**mirror(server))["changed"]
    assert server.ranges_of("a.safetensors") == ["bytes=1000-", ""]
    assert host.content() == WANTED


@pytest.mark.parametrize(
    ("spoil", "texts"),
    [
        (lambda s: s.files.pop("b.safetensors"), ["b.safetensors: 404", "complete the mirror"]),
        (lambda s: setattr(s, "sums", ""), ["SHA256SUMS: 404", "model_cache_url"]),
        (lambda s: setattr(s, "sums", "nonsense\n"), ["SHA256SUMS, line 1: not as sha256sum"]),
        (lambda s: setattr(s, "sums", f"{'0' * 64}  ../../etc/x\n"), ["'../../etc/x'"]),
        (lambda s: setattr(s, "require", "Basic"), ["401", "model_cache_credentials_file"]),
        (lambda s: setattr(s, "sums", f"{sha(b'pickle')}  pytorch_model.bin\n"), ["model_cache_exclude"]),
    ],
    ids=["file", "sums", "format", "path", "login", "excluded"],
)
def test_what_is_wrong_with_a_mirror(server: Server, host: Host, spoil: Any, texts: list[str]) -> None:
    spoil(server)
    failed = host.run(**mirror(server))
    assert failed["failed"]
    for text in texts:
        assert text in failed["msg"]
    assert "last lines of" in failed["msg"]


def test_credentials_come_from_netrc_and_are_shown_nowhere(
    server: Server, host: Host, tmp_path: Path
) -> None:
    server.require = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    file = tmp_path / "netrc"
    file.write_text(f"machine 127.0.0.1 login me password {TOKEN}\n")
    file.chmod(0o600)
    given = {**mirror(server), "credentials_file": str(file)}
    result = host.run(**given)
    assert result["changed"]
    for path in [p for p in tmp_path.rglob("*") if p.is_file() and p != file]:
        assert TOKEN.encode() not in path.read_bytes(), path


def test_files_of_others_are_neither_overwritten_nor_removed(server: Server, host: Host) -> None:
    host.model.mkdir()
    (host.model / "config.json").write_bytes(b"mine")
    failed = host.run(**mirror(server))
    assert "was not downloaded by us and differs" in failed["msg"]
    assert (host.model / "config.json").read_bytes() == b"mine"
    (host.model / "config.json").write_bytes(FILES["config.json"])
    (host.model / "notes.txt").write_text("mine")
    assert host.run(**mirror(server))["changed"]
    assert server.ranges_of("config.json") == [], "a right file is taken as it is"
    previewed = host.call(state="absent", remove_files=True, check=True)["removed"]
    removed = host.call(state="absent", remove_files=True)
    assert removed["removed"] == previewed == ["a.safetensors", "b.safetensors", "tokenizer.json"]
    assert set(host.content()) == {"config.json", "notes.txt"}
    assert not (host.model / ".wideep").exists()
    assert not host.call(state="absent", remove_files=True)["changed"]


def test_damage_on_the_disk_is_found_and_mended(server: Server, host: Host) -> None:
    host.run(**mirror(server))
    path = host.model / "a.safetensors"
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not host.run(**mirror(server))["changed"], "size and time are the same"
    assert host.run(**mirror(server), rehash=True)["changed"]
    assert host.content() == WANTED


def test_another_model_does_not_go_into_a_complete_directory(server: Server, host: Host) -> None:
    host.run(**mirror(server))
    failed = host.run(source="http", url=f"{server.url}/other")
    assert f"holds {server.url}/model, not {server.url}/other" in failed["msg"]


def test_too_little_room_is_told_before_anything_comes(tmp_path: Path, server: Server) -> None:
    job = {
        **mirror(server),
        "path": str(tmp_path),
        "exclude": [],
        "parallel": 1,
        "rehash": False,
        "host": "x",
    }
    (tmp_path / ".wideep").mkdir()
    work = model_download.Download(job, model_download.Status(tmp_path / "status.json", "x"))
    with pytest.raises(model_download.DownloadError, match=r"GB are to come, and .* GB are free; free \d+"):
        work._check_room([model_download.Remote("huge", 10**18)])


def test_of_two_hosts_one_downloads_and_the_other_waits(
    server: Server, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Host(tmp_path, capsys, "gpu-2")
    server.hold.clear()
    host.call(**mirror(server))
    host.wait_for_part("a.safetensors")
    try:
        waiting = other.call(**mirror(server), slice_s=2)
        assert waiting["progress"]["state"] == "waiting"
        assert waiting["progress"]["holder"] == f"gpu-1 (pid {Job(host.job_dir).pid()})"
        assert waiting["progress"]["done"] > 0
        server.hold.set()
        assert host.run(**mirror(server))["state"] == "complete"
        second = other.run(**mirror(server))
        assert (second["state"], second["changed"]) == ("complete", False)
    finally:
        Job(other.job_dir).stop()
    assert [len(server.ranges_of(name)) for name in WANTED] == [1] * len(WANTED)


def test_a_waiting_host_takes_over_from_a_killed_one(
    server: Server, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Host(tmp_path, capsys, "gpu-2")
    server.hold.clear()
    host.call(**mirror(server))
    host.wait_for_part("a.safetensors")
    other.call(**mirror(server), slice_s=1)
    kill(host)
    server.hold.set()
    assert other.run(**mirror(server))["changed"]
    assert other.content() == WANTED
    assert server.ranges_of("a.safetensors")[1].startswith("bytes=")


# ---- hub ------------------------------------------------------------------------------------------


def hub(server: Server, tmp_path: Path, token: str = TOKEN) -> dict[str, Any]:
    file = tmp_path / "hub-token"
    if token:
        file.write_text(token)
        file.chmod(0o600)
    return {
        **{"source": "hub", "repo": "org/model", "revision": COMMIT, "endpoint": server.url},
        "token_file": str(file),
    }


def test_a_hub_with_a_token_that_breaks_and_leads_elsewhere(
    server: Server, host: Host, tmp_path: Path
) -> None:
    store = Server()
    server.require, server.elsewhere = f"Bearer {TOKEN}", store.url
    store.break_after["a.safetensors"] = 1_500_000
    try:
        result = host.run(**hub(server, tmp_path))
    finally:
        store.shutdown()
        store.server_close()
    assert (result.get("msg"), result["changed"]) == (None, True)
    assert host.content() == WANTED
    assert store.ranges_of("a.safetensors") == ["", f"bytes={1 << 20}-"]
    assert set(store.authorizations) == {""}, "the token does not go to another server"
    for path in [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "hub-token"]:
        assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in json.dumps(result)


def test_a_killed_download_from_a_hub_is_continued(server: Server, host: Host, tmp_path: Path) -> None:
    server.hold.clear()
    host.call(**hub(server, tmp_path, token=""))
    host.wait_for_part("a.safetensors")
    process = Path(f"/proc/{Job(host.job_dir).pid()}")
    assert TOKEN.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    kill(host)
    server.hold.set()
    result = host.run(**hub(server, tmp_path, token=""))
    assert result.get("changed"), result
    assert re.fullmatch(r"bytes=[1-9]\d{5,}-", server.ranges_of("a.safetensors")[1])
    assert host.content() == WANTED


@pytest.mark.parametrize("name", ["b.safetensors", "tokenizer.json"])
def test_a_hub_that_sends_another_content(server: Server, host: Host, tmp_path: Path, name: str) -> None:
    server.files[name] = bytes(len(FILES[name]))
    failed = host.run(**hub(server, tmp_path))
    assert f"{name} from org/model@{COMMIT}: its digest is" in failed["msg"]
    assert name not in host.content()


def test_a_hub_that_refuses(server: Server, host: Host, tmp_path: Path) -> None:
    server.require = "Bearer"
    failed = host.run(**hub(server, tmp_path, token=""))
    assert "(401), token: none (" in failed["msg"]
    assert "hub-token does not exist)" in failed["msg"]
    assert "secrets_hub_token" in failed["msg"]


def test_a_revision_that_the_hub_lacks(server: Server, host: Host, tmp_path: Path) -> None:
    failed = host.run(**{**hub(server, tmp_path), "revision": "f" * 40})
    assert f"has no org/model at revision {'f' * 40} (404)" in failed["msg"]
    assert TOKEN not in failed["msg"]


# ---- S3 -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def boto3_python() -> Path:
    """Return an interpreter with the boto3 of the role's lock file."""
    return installed("boto3") / "python"


@pytest.fixture
def s3(server: Server, boto3_python: Path, tmp_path: Path) -> dict[str, Any]:
    server.require = "AWS4-HMAC-SHA256 Credential=wideep-test/"
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = wideep-test\naws_secret_access_key = {TOKEN}\n")
    return {
        **{"source": "s3", "url": "s3://bucket/models/small", "endpoint": server.url},
        **{"credentials_file": str(file), "python": str(boto3_python)},
    }


def test_a_bucket_that_breaks(server: Server, host: Host, s3: dict[str, Any]) -> None:
    server.break_after["a.safetensors"] = 1_000_000
    result = host.run(**s3)
    assert (result.get("msg"), result["changed"], result.get("warnings")) == (None, True, None)
    assert host.content() == WANTED
    assert server.ranges_of("a.safetensors") == ["bytes=0-", "bytes=1000000-"]
    assert TOKEN not in (host.job_dir / "download.log").read_text() + (host.job_dir / "job.json").read_text()
    assert not host.run(**s3)["changed"]


def test_a_bucket_without_hashes_says_so(server: Server, host: Host, s3: dict[str, Any]) -> None:
    server.sums = ""
    result = host.run(**s3)
    assert host.content() == WANTED
    assert "4 files were checked by size only" in str(result["warnings"])


def test_a_bucket_that_refuses(server: Server, host: Host, s3: dict[str, Any]) -> None:
    server.require = "AWS4-HMAC-SHA256 Credential=another/"
    failed = host.run(**s3)
    assert "(401); name an AWS credentials file" in failed["msg"]


def test_a_bucket_with_another_content(server: Server, host: Host, s3: dict[str, Any]) -> None:
    server.files["b.safetensors"] = bytes(len(FILES["b.safetensors"]))
    failed = host.run(**s3)
    assert "b.safetensors from s3://bucket/models/small: its digest is" in failed["msg"]


# ---- through Ansible ------------------------------------------------------------------------------


def ansible(host: Host, **given: Any) -> subprocess.Popen[str]:
    arguments = {"path": str(host.model), "job_dir": str(host.job_dir), "exclude": ["*.bin"], **given}
    command = [Path(sys.executable).parent / "ansible", "localhost", "-i", REPOSITORY / "inventories/local"]
    return subprocess.Popen(
        [*command, "-m", "wideep.dynamo.model_download", "-a", json.dumps(arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_says_how_far_it_is(server: Server, host: Host) -> None:
    server.hold.clear()
    run = ansible(host, **mirror(server), slice_s=1.5)
    assert run.stdout
    seen = ""
    while "localhost: model: downloads, 0.0 of 0.0 GB (" not in seen:
        line = run.stdout.readline()
        assert line, seen
        seen += line
    server.hold.set()
    # Not communicate(): it would miss what readline() has read ahead.
    rest = run.stdout.read()
    run.wait(60)
    assert "localhost | CHANGED" in rest
    assert host.content() == WANTED


def test_a_source_that_is_no_whole_model(server: Server, host: Host) -> None:
    server.sums = "".join(f"{sha(d)}  {n}\n" for n, d in FILES.items() if n != "tokenizer.json")
    output, _ = ansible(host, **mirror(server)).communicate(timeout=60)
    assert "FAILED" in output
    assert "lacks a tokenizer" in output
    assert "the source is not a whole model" in output
    output, _ = ansible(host, source="path").communicate(timeout=60)
    assert "lacks a tokenizer" in output
    assert "let it be downloaded" in output

"""Downloads a model directory from a hub, an HTTP mirror or S3: a script that runs on the host for hours.

The file stands alone (standard library; huggingface_hub or boto3 only where they are the source), because
`model_job.py` copies it to the host and starts it detached: `python model_download.py JOB.json`.

Whatever the source, a file is fetched into `<model>/.wideep/partial/`, which later runs continue, is checked
against the source's digest, and is published by a rename. `<model>/.wideep/model.json` says what was checked.
A POSIX lock in the same place lets one process at a time work: on a shared file system the others wait.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import http.client
import json
import netrc
import os
import re
import signal
import sys
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

PLACE = ".wideep"
SUMS = "SHA256SUMS"
CHUNK = 1 << 20
TIMEOUT_S = 60
# So often in a row nothing comes: then it is given up. Pauses between double.
ATTEMPTS = 6
STATUS_EVERY_S = 1.0
RATE_WINDOW_S = 30.0
FULL = (errno.ENOSPC, errno.EDQUOT)


class DownloadError(Exception):
    """What is wrong and what to do; the text is for the operator."""


class TransientError(Exception):
    """What another attempt may mend."""


@dataclass(frozen=True)
class Remote:
    """A file of the source. size: bytes, -1 where it does not say. digest: `sha256:…`, `git:…` or empty."""

    name: str
    size: int
    digest: str = ""


class Source(Protocol):
    """Where a model comes from."""

    def listing(self) -> list[Remote]:
        """Return its files."""

    def fetch(self, remote: Remote, partial: Path) -> None:
        """Append to the part what it lacks of a file."""


@dataclass(frozen=True)
class Known:
    """A file of the directory that was found right. mtime: whole seconds, which all file systems keep.

    ours: it was downloaded, not found there.
    """

    size: int
    mtime: int
    digest: str
    ours: bool


def identity(job: dict[str, Any]) -> str:
    """Return what the directory is a copy of."""
    return f"{job['repo']}@{job['revision']}" if job["source"] == "hub" else str(job["url"]).rstrip("/")


# ---- what is known of the directory ---------------------------------------------------------------


class Manifest:
    """`model.json`: the files that were found right, and whether these are all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / PLACE / "model.json"
        self.source = ""
        self.complete = False
        self.files: dict[str, Known] = {}
        self._lock = threading.Lock()
        try:
            data = json.loads(self.file.read_text())
            self.files = {name: Known(**known) for name, known in data["files"].items()}
            self.source, self.complete = data["source"], data["complete"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none, or a damaged one: the files themselves are looked at again

    def same(self, name: str) -> bool:
        """Whether the file is the one that was found right, as far as size and time tell."""
        known = self.files.get(name)
        try:
            stat = (self.directory / name).stat()
        except OSError:
            return False
        return known is not None and (stat.st_size, int(stat.st_mtime)) == (known.size, known.mtime)

    def add(self, name: str, digest: str, *, ours: bool) -> None:
        """Note that the file is right as it is."""
        stat = (self.directory / name).stat()
        with self._lock:
            self.files[name] = Known(stat.st_size, int(stat.st_mtime), digest, ours)
            self._write()

    def settle(self, source: str, *, complete: bool) -> None:
        """Note of what the directory is a copy, and whether it is a whole one."""
        with self._lock:
            self.source, self.complete = source, complete
            self._write()

    def _write(self) -> None:
        files = {name: asdict(known) for name, known in sorted(self.files.items())}
        write_json(self.file, {"source": self.source, "complete": self.complete, "files": files})


def is_complete(job: dict[str, Any]) -> bool:
    """Whether the directory is the whole copy that the job asks for. Reads no file but the manifest."""
    manifest = Manifest(Path(job["path"]))
    right = manifest.complete and manifest.source == identity(job)
    return right and all(manifest.same(name) for name in manifest.files)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write the file in one step."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    fresh.write_text(json.dumps(data, indent=1))
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the content, {} where there is none."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def digest_of(path: Path, kind: str) -> str:
    """Return the file's digest in the form of `Remote.digest`. git: as git names a file's content (SHA-1)."""
    hasher = hashlib.sha256() if kind == "sha256" else hashlib.sha1()  # noqa: S324
    if kind == "git":
        hasher.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return f"{kind}:{hasher.hexdigest()}"


# ---- progress -------------------------------------------------------------------------------------


class Status:
    """What goes on, for the module that asks (`status.json` beside the job) and for hosts that wait."""

    def __init__(self, file: Path, host: str) -> None:
        self.file = file
        self.shared: Path | None = None  # while we hold the directory's lock
        self.remotes: list[Remote] = []
        self.data: dict[str, Any] = {"state": "starting", "host": host, "pid": os.getpid(), "fetched": 0}
        self._samples: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def set(self, **values: Any) -> None:
        """Change what is told, and tell it."""
        with self._lock:
            self.data.update(values, time=time.time())
            write_json(self.file, self.data)
            if self.shared:
                with contextlib.suppress(OSError):  # a full disk: what matters is told by the other file
                    write_json(self.shared, self.data)

    def measure(self, directory: Path, manifest: Manifest) -> None:
        """Tell the bytes that are there, whole files and parts, and their rate over the last 30 s."""
        done, files = 0, 0
        for remote in self.remotes:
            if remote.name in manifest.files:
                done, files = done + manifest.files[remote.name].size, files + 1
                continue
            with contextlib.suppress(OSError):
                done += (directory / PLACE / "partial" / remote.name).stat().st_size
        now = time.monotonic()
        self._samples.append((now, done))
        while now - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = max(0.0, (done - before) / (now - since)) if now > since else 0.0
        self.set(done=done, files_done=files, rate=rate)


def say(text: str) -> None:
    """Write a line to the log."""
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, flush=True)


# ---- sources --------------------------------------------------------------------------------------


def safe(name: str, where: str) -> str:
    """Return a file's name. Raises DownloadError for one that leads out of the directory, or to our place."""
    parts = name.split("/")
    if not name or name.startswith("/") or "\0" in name or {"", ".", ".."} & set(parts) or parts[0] == PLACE:
        raise DownloadError(
            f"{where} names the file {name!r}, which is no name below a directory: correct it there"
        )
    return name


def read_sums(text: str, where: str) -> dict[str, str]:
    """Return {name: `sha256:…`} of what sha256sum wrote. Raises DownloadError with the first other line."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)", line)
        if not match:
            raise DownloadError(
                f"{where}, line {number}: not as sha256sum writes it (<64 hex digits>  <name>); make it there"
                f" with `find . -type f ! -name {SUMS} -print0 | xargs -0 sha256sum > {SUMS}`"
            )
        escaped, digest, name = match.groups()
        if escaped:
            name = name.replace("\\n", "\n").replace("\\\\", "\\")
        found[safe(name[2:] if name.startswith("./") else name, where)] = f"sha256:{digest.lower()}"
    if not found:
        raise DownloadError(f"{where} names no file")
    return found


class Http:
    """A directory of an HTTP server with a file SHA256SUMS. Credentials: a netrc file."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.base = job["url"].rstrip("/") + "/"
        self.workers = job["parallel"]
        self.credentials = job["credentials_file"]
        self.authorization = ""
        if self.credentials:
            try:
                host = urllib.parse.urlsplit(self.base).hostname or ""
                entry = netrc.netrc(self.credentials).authenticators(host)
            except (OSError, netrc.NetrcParseError) as error:
                # The parser's own text may quote the file.
                problem = error.strerror if isinstance(error, OSError) else "not a netrc file"
                raise DownloadError(f"model_cache_credentials_file {self.credentials}: {problem}") from None
            if entry:
                pair = f"{entry[0]}:{entry[2]}".encode()
                self.authorization = "Basic " + base64.b64encode(pair).decode()

    def listing(self) -> list[Remote]:
        """Return the files that SHA256SUMS names, with the sizes that the server gives."""
        with self._open(SUMS) as answer:
            sums = read_sums(answer.read().decode(errors="replace"), self.base + SUMS)

        def ask(name: str) -> Remote:
            return patiently(f"size of {name}", lambda: Remote(name, self._size(name), sums[name]))

        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(ask, sums))

    def _size(self, name: str) -> int:
        with self._open(name, "HEAD") as answer:
            return int(answer.headers.get("Content-Length") or -1)

    def fetch(self, remote: Remote, partial: Path) -> None:
        """Append what the part lacks."""
        with partial.open("ab") as out:
            start = out.tell()
            try:
                with self._open(remote.name, start=start) as answer:
                    if start and answer.status != http.client.PARTIAL_CONTENT:
                        out.truncate(0)  # it does not do ranges, and sends all
                        start = 0
                    length = answer.headers.get("Content-Length")
                    while chunk := answer.read(CHUNK):
                        out.write(chunk)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                raise TransientError(f"{remote.name}: {error or type(error).__name__}") from error
            if length and out.tell() < start + int(length):
                raise TransientError(f"{remote.name}: the connection broke after {out.tell()} bytes")

    def _open(self, name: str, method: str = "GET", start: int = 0) -> Any:
        url = self.base + urllib.parse.quote(name)
        request = urllib.request.Request(url, method=method)
        if start:
            request.add_header("Range", f"bytes={start}-")
        if self.authorization:  # never to where a redirection leads
            request.add_unredirected_header("Authorization", self.authorization)
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            status = error.code
            if status in (401, 403):
                have = f"those in {self.credentials}" if self.authorization else "none"
                raise DownloadError(
                    f"{url}: {status} {error.reason}, credentials: {have}; name a netrc file with this server"
                    " in model_cache_credentials_file"
                ) from None
            if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise TransientError(f"{name}: the server's file is shorter than our part") from None
            if status in (408, 425, 429) or status >= 500:
                raise TransientError(f"{url}: {status} {error.reason}") from None
            hint = f"put {SUMS} there (sha256sum)" if name == SUMS else "complete the mirror"
            raise DownloadError(
                f"{url}: {status} {error.reason}; {hint}, or correct model_cache_url"
            ) from None
        except (http.client.HTTPException, OSError) as error:
            raise TransientError(f"{url}: {getattr(error, 'reason', None) or error}") from error


class Hub:
    """A hub of Hugging Face's kind, by its own library: metadata, headers, token, and ranges.

    Not its hf_hub_download: its own begins a file anew after its process was killed.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        from huggingface_hub import HfApi, constants  # noqa: PLC0415

        constants.DOWNLOAD_CHUNK_SIZE = CHUNK  # what is kept when a connection breaks: steps of 1, not 10 MB
        self.job = job
        self.endpoint = constants.ENDPOINT
        self.api = HfApi()

    def listing(self) -> list[Remote]:
        """Return the files of the revision: SHA-256 of large ones, git's digest of the others."""
        repo, revision = self.job["repo"], self.job["revision"]
        with self._explained():
            info = self.api.model_info(repo, revision=revision, files_metadata=True)
        if info.sha != revision:
            raise DownloadError(
                f"{self.endpoint} gave revision {info.sha} of {repo} for {revision}: not a true mirror"
            )
        found = []
        for file in info.siblings or []:
            size, digest = file.size, f"git:{file.blob_id}" if file.blob_id else ""
            if file.lfs:
                size, digest = file.lfs.size, f"sha256:{file.lfs.sha256}"
            found.append(Remote(safe(file.rfilename, self.endpoint), -1 if size is None else size, digest))
        return found

    def fetch(self, remote: Remote, partial: Path) -> None:
        """Append what the part lacks."""
        from huggingface_hub import hf_hub_url  # noqa: PLC0415
        from huggingface_hub.file_download import http_get  # noqa: PLC0415
        from huggingface_hub.utils import build_hf_headers  # noqa: PLC0415

        url = hf_hub_url(self.job["repo"], remote.name, revision=self.job["revision"], endpoint=self.endpoint)
        # Compressed, a range would be one of the compressed bytes.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        with partial.open("ab") as out, self._explained():
            size = None if remote.size < 0 else remote.size
            http_get(url, out, resume_size=out.tell(), headers=headers, expected_size=size)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            response = getattr(error, "response", None)
            status = getattr(response, "status_code", None)
            repo, revision = self.job["repo"], self.job["revision"]
            token = self.job["token"] or "none"
            if status in (401, 403):
                raise DownloadError(
                    f"{self.endpoint} refuses {repo} ({status}), token: {token}; it is private, gated, or"
                    f" does not exist: accept the model's terms at {self.endpoint}/{repo}, and set the token"
                    " of that account (secrets_hub_token), or correct model_cache_repo"
                ) from None
            if status == http.client.NOT_FOUND:
                raise DownloadError(
                    f"{self.endpoint} has no {repo} at revision {revision} (404), token: {token}; correct"
                    " model_cache_repo or model_cache_revision"
                ) from None
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            # Its transport's errors have no base of their own; what is left of ours is a mistake of ours.
            if status or isinstance(error, OSError) or type(error).__module__.startswith("http"):
                text = str(error).strip().splitlines() or [type(error).__name__]
                raise TransientError(f"{self.endpoint}: {text[0]}") from error
            raise


class S3:
    """A prefix of a bucket, by boto3; hashes where it holds a file SHA256SUMS."""

    def __init__(self, job: dict[str, Any]) -> None:
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        parts = urllib.parse.urlsplit(job["url"])
        self.job, self.bucket, prefix = job, parts.netloc, parts.path.strip("/")
        self.prefix = prefix + "/" if prefix else ""
        config = Config(
            max_pool_connections=job["parallel"] + 1,
            connect_timeout=TIMEOUT_S,
            read_timeout=TIMEOUT_S,
            retries={"mode": "standard", "max_attempts": 3},
        )
        self.client = boto3.client("s3", endpoint_url=job["endpoint"] or None, config=config)

    def listing(self) -> list[Remote]:
        """Return the objects below the prefix."""
        where = f"{self.job['url'].rstrip('/')}/{SUMS}"
        with self._explained():
            sizes = {
                entry["Key"][len(self.prefix) :]: entry["Size"]
                for page in self.client.get_paginator("list_objects_v2").paginate(
                    Bucket=self.bucket, Prefix=self.prefix
                )
                for entry in page.get("Contents", [])
                if not entry["Key"].endswith("/")
            }
            sums = {}
            if sizes.pop(SUMS, None) is not None:
                body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + SUMS)["Body"].read()
                sums = read_sums(body.decode(errors="replace"), where)
        if not sizes:
            raise DownloadError(f"{self.job['url']} holds no object; correct model_cache_url")
        if missing := sorted(set(sums) - set(sizes)):
            raise DownloadError(
                f"{where} names {', '.join(missing[:3])}, which is not there; complete the bucket"
            )
        # With hashes, what they do not name is not the model's.
        return [Remote(safe(n, where), s, sums.get(n, "")) for n, s in sizes.items() if n in sums or not sums]

    def fetch(self, remote: Remote, partial: Path) -> None:
        """Append what the part lacks."""
        if remote.size == 0:
            partial.touch()
            return
        with partial.open("ab") as out, self._explained():
            answer = self.client.get_object(
                Bucket=self.bucket, Key=self.prefix + remote.name, Range=f"bytes={out.tell()}-"
            )
            for chunk in answer["Body"].iter_chunks(CHUNK):
                out.write(chunk)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError  # noqa: PLC0415

        remedy = "name an AWS credentials file on the host in model_cache_credentials_file, or give it a role"
        url, endpoint = self.job["url"], self.job["endpoint"] or "AWS"
        try:
            yield
        except NoCredentialsError:
            raise DownloadError(f"{url}: no credentials for {endpoint} on this host; {remedy}") from None
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            text = f"{url}: {endpoint} answers {error.response.get('Error', {}).get('Code')} ({status})"
            if status in (400, 401, 403):
                raise DownloadError(f"{text}; {remedy}") from None
            if status == http.client.NOT_FOUND:
                raise DownloadError(f"{text}; correct model_cache_url or model_cache_endpoint") from None
            raise TransientError(text) from error
        except (HTTPClientError, ConnectionError, TimeoutError) as error:
            raise TransientError(f"{url}: {error}") from error
        except BotoCoreError as error:
            if type(error).__name__ in ("IncompleteReadError", "ResponseStreamingError"):
                raise TransientError(f"{url}: {error}") from error
            raise DownloadError(f"{url}: {error}; {remedy}") from error


SOURCES: dict[str, Callable[[dict[str, Any]], Source]] = {"http": Http, "hub": Hub, "s3": S3}


def patiently(
    what: str, work: Callable[[], T], progress: Callable[[], int] | None = None, pause_s: float = 1.0
) -> T:
    """Return what the work returns, tried again while it fails for reasons that pass.

    progress: returns a number that grows while something comes; then the attempts count anew.
    """
    attempt, before = 0, progress() if progress else 0
    while True:
        try:
            return work()
        except TransientError as problem:
            now = progress() if progress else 0
            attempt = 1 if now > before else attempt + 1
            before = now
            say(f"{problem} (attempt {attempt} of {ATTEMPTS})")
            if attempt == ATTEMPTS:
                raise DownloadError(
                    f"{problem}; tried {ATTEMPTS} times. Look at the network and proxy of this host"
                    f" (HTTPS_PROXY), then run again: {what} goes on where it is"
                ) from problem
            time.sleep(pause_s * 2 ** (attempt - 1))


# ---- the work -------------------------------------------------------------------------------------


class Download:
    """One job, once the directory's lock is ours."""

    def __init__(self, job: dict[str, Any], status: Status) -> None:
        self.job, self.status = job, status
        self.directory = Path(job["path"])
        self.parts = self.directory / PLACE / "partial"
        self.manifest = Manifest(self.directory)
        self.pause_s = float(job.get("pause_s", 1.0))
        self.fetched = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Make the directory complete. Raises DownloadError."""
        if is_complete(self.job) and not self.job["rehash"]:
            self.status.set(state="done")  # another host, while we waited
            return
        wanted = identity(self.job)
        if self.manifest.complete and self.manifest.source != wanted:
            raise DownloadError(
                f"{self.directory} holds {self.manifest.source}, not {wanted}; set wideep_model_path to"
                f" another directory, or, if the files are the same, remove {self.manifest.file}: they are"
                " then checked against the new source"
            )
        self.status.set(state="listing")
        source = SOURCES[self.job["source"]](self.job)
        remotes = self._kept(patiently("the list", source.listing, pause_s=self.pause_s))
        self.status.remotes = remotes
        known = [r.size for r in remotes if r.size > 0]
        self.status.set(state="verifying", total=sum(known), files=len(remotes))
        before = self.manifest.files
        self.manifest.files = {}
        self.manifest.settle(wanted, complete=False)
        with self._measured():
            missing = [r for r, right in zip(remotes, self._all(remotes, before, self._right)) if not right]
            self._check_room(missing)
            self.status.set(state="downloading")
            self._all(missing, before, lambda remote, _: self._get(source, remote))
        _remove_tree(self.parts)
        self.manifest.settle(wanted, complete=True)
        unchecked = sum(not r.digest for r in remotes)
        self.status.set(state="done", fetched=self.fetched, unchecked=unchecked)
        say(f"complete: {len(remotes)} files, {self.fetched} bytes fetched, {unchecked} checked by size only")

    def _kept(self, remotes: list[Remote]) -> list[Remote]:
        kept = [r for r in remotes if not any(fnmatch.fnmatch(r.name, p) for p in self.job["exclude"])]
        if len(kept) < len(remotes) and not any(r.name.endswith(".safetensors") for r in kept):
            raise DownloadError(
                f"{identity(self.job)} has no *.safetensors, and model_cache_exclude leaves out "
                + ", ".join(sorted({r.name for r in remotes} - {r.name for r in kept})[:5])
                + "; take another repository, or change model_cache_exclude"
            )
        return sorted(kept, key=lambda r: -r.size)  # the longest first: the end is not one file alone

    def _all(self, remotes: list[Remote], before: dict[str, Known], work: Any) -> list[Any]:
        """Do the work for each file, several at once; the first failure ends all."""
        pool = ThreadPoolExecutor(self.job["parallel"])
        futures = [pool.submit(work, remote, before) for remote in remotes]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [f for f in futures if f.done() and not f.cancelled() and f.exception()]
            return [future.result() for future in failed or futures]
        finally:
            # After a failure nobody waits for what still runs: its parts stay, and the process ends.
            pool.shutdown(wait=False, cancel_futures=True)

    def _right(self, remote: Remote, before: dict[str, Known]) -> bool:
        """Whether the file is there and right. Raises DownloadError for a wrong one that is not ours."""
        path = self.directory / remote.name
        if not os.path.lexists(path):
            return False
        known = before.get(remote.name)
        ours = known is not None and known.ours
        if known and known.digest == remote.digest and not self.job["rehash"]:
            stat = path.stat()
            if (stat.st_size, int(stat.st_mtime)) == (known.size, known.mtime):
                self.manifest.add(remote.name, remote.digest, ours=ours)
                return True
        problem = self._problem(path, remote)
        if not problem:
            self.manifest.add(remote.name, remote.digest, ours=ours)
            return True
        if ours:
            say(f"{remote.name}: {problem}; fetched again")
            return False
        raise DownloadError(
            f"{path} was not downloaded by us and differs from the source: {problem}; move it away, or set"
            " wideep_model_path to another directory"
        )

    def _problem(self, path: Path, remote: Remote) -> str:
        """Return what is wrong with the file, '' when nothing is."""
        if not path.is_file():
            return "it is not a file"
        size = path.stat().st_size
        if 0 <= remote.size != size:
            return f"its size is {size} bytes, expected {remote.size}"
        if remote.digest:
            got = digest_of(path, remote.digest.partition(":")[0])
            if got != remote.digest:
                return f"its digest is {got}, expected {remote.digest}"
        return ""

    def _check_room(self, missing: list[Remote]) -> None:
        needed = sum(r.size - self._part(r) for r in missing if r.size > 0)
        room = os.statvfs(self.directory)
        free = room.f_bavail * room.f_frsize
        if needed > free:
            raise DownloadError(
                f"{self.directory}: {needed / 1e9:.1f} GB are to come, and {free / 1e9:.1f} GB are free;"
                f" free {(needed - free) / 1e9:.1f} GB there, or set wideep_model_path to a larger disk"
            )

    def _part(self, remote: Remote) -> int:
        try:
            return (self.parts / remote.name).stat().st_size
        except OSError:
            return 0

    def _get(self, source: Source, remote: Remote) -> None:
        """Fetch one file, check it, publish it."""
        part = self.parts / remote.name
        part.parent.mkdir(parents=True, exist_ok=True)
        for attempt in (1, 2):
            start = self._part(remote)
            if start > remote.size >= 0:
                part.unlink()
                start = 0
            if start != remote.size or start == 0:
                if start:
                    say(f"{remote.name}: goes on at byte {start}")
                patiently(
                    remote.name,
                    lambda: source.fetch(remote, part),
                    lambda: self._part(remote),
                    self.pause_s,
                )
            problem = self._problem(part, remote)
            if not problem:
                break
            part.unlink()
            # A part of an earlier run may be of another file; what was fetched in one go is the source's.
            if start == 0 or attempt == 2:
                raise DownloadError(
                    f"{remote.name} from {identity(self.job)}: {problem}; it is corrupt at the source or on"
                    " the way. Correct the mirror, then run again: only this file is fetched"
                )
            say(f"{remote.name}: {problem}; fetched anew")
        final = self.directory / remote.name
        final.parent.mkdir(parents=True, exist_ok=True)
        part.chmod(0o644)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(final)
        self.manifest.add(remote.name, remote.digest, ours=True)
        with self._lock:
            self.fetched += final.stat().st_size
        say(f"{remote.name}: done")

    @contextlib.contextmanager
    def _measured(self) -> Iterator[None]:
        """Tell the progress while the work goes on."""
        over = threading.Event()

        def loop() -> None:
            while not over.wait(STATUS_EVERY_S):
                self.status.measure(self.directory, self.manifest)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.status.measure(self.directory, self.manifest)


def _remove_tree(path: Path) -> None:
    if not path.is_dir():
        return
    for entry in sorted(path.rglob("*"), reverse=True):
        if entry.is_dir() and not entry.is_symlink():
            entry.rmdir()
        else:
            entry.unlink()
    path.rmdir()


def lock(directory: Path, status: Status | None = None) -> IO[str]:
    """Return the directory's lock, held until it is closed or the process ends.

    While another has it, the status tells who, and how far that one is; without a status nothing is waited
    for. Raises DownloadError where the file system knows no locks.
    """
    place = directory / PLACE
    place.mkdir(parents=True, exist_ok=True)
    holder = place / "holder.json"
    # Opened once: closing any descriptor of the file would give the lock up.
    file = (place / "lock").open("a+")
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise DownloadError(
                    f"the file system of {directory} knows no locks ({error.strerror}); mount it with them"
                    " (Lustre: -o flock), or download on one host (--limit), then model_cache_source: path"
                ) from error
            other = read_json(holder)
            who = f"{other.get('host', 'another process')} (pid {other.get('pid', '?')})"
            if status is None:
                raise DownloadError(f"{directory} is in use by {who}") from None
            told = {key: other.get(key) for key in ("done", "total", "files", "files_done", "rate")}
            status.set(state="waiting", holder=who, **told)
            time.sleep(STATUS_EVERY_S)
    if status:
        status.shared = holder
    return file


def remove(directory: Path, *, check: bool = False) -> list[str]:
    """Remove the files that were downloaded, our own notes, and directories that are empty then.

    Returns their names. Raises DownloadError while a download is in progress.
    """
    manifest = Manifest(directory)
    if not (directory / PLACE).is_dir():
        return []
    ours = sorted(
        name for name, known in manifest.files.items() if known.ours and (directory / name).is_file()
    )
    if check:
        return ours
    with lock(directory):
        for name in ours:
            (directory / name).unlink()
        _remove_tree(directory / PLACE)
    folders = {directory / parent for name in ours for parent in Path(name).parents}
    for folder in sorted(folders | {directory}, key=lambda p: -len(p.parts)):
        with contextlib.suppress(OSError):  # something of others is in it
            folder.rmdir()
    return ours


def main(job_file: str) -> int:
    """Do the job; its outcome is in `status.json` beside the file, its log is the output."""
    job = json.loads(Path(job_file).read_text())
    status = Status(Path(job_file).with_name("status.json"), job["host"])
    os.umask(0o022)  # services read it as other users
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    say(f"{identity(job)} to {job['path']}, pid {os.getpid()}")
    try:
        held = lock(Path(job["path"]), status)
        Download(job, status).run()
        held.close()
        return 0
    except DownloadError as problem:
        message = str(problem)
    except OSError as problem:
        place = problem.filename or job["path"]
        hint = (
            "free space there, or set wideep_model_path to a larger disk"
            if problem.errno in FULL
            else f"is it writable for uid {os.geteuid()}? Correct its owner, or set wideep_model_path"
        )
        message = f"{place}: {problem.strerror or problem}; {hint}"
    except SystemExit:
        message = "stopped from outside; run again: it goes on where it is"
    except Exception as problem:  # noqa: BLE001 - told to the operator, with its place in the log
        traceback.print_exc()
        message = f"unexpected: {type(problem).__name__}: {problem}"
    say(f"failed: {message}")
    status.set(state="failed", message=message)
    sys.stdout.flush()
    # At once, and the lock with it: what other threads fetch is kept as it is.
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

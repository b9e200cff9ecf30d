"""A download that runs detached on this host: started, found again by later runs, watched, ended.

Its directory holds the script, the job, its status and its log. It outlives the run that started it, so that
a lost connection or Ctrl-C costs nothing; the next run finds it and waits on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.wideep.dynamo.plugins.module_utils import model_download, process
from ansible_collections.wideep.dynamo.plugins.module_utils.logs import tail
from ansible_collections.wideep.dynamo.plugins.module_utils.python_env import CA_BUNDLES, FOREIGN_ENV

POLL_S = 0.2
STOP_S = 10.0
LOG_LINES = 12


class Job:
    """The download whose files are in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "job.json"
        self.log = directory / "download.log"

    def pid(self) -> int:
        """Return the process, 0 when none runs."""
        pid = model_download.read_json(self.directory / "process.json").get("pid", 0)
        # A pid may be another's by now; the name of our file is not.
        runs = pid and process.alive(pid) and str(self.file) in process.command_line(pid)
        return pid if runs else 0

    def start(self, job: dict[str, Any], python: str, token_file: str) -> None:
        """Start the download. What ran before for another job is ended first."""
        self.stop()
        self.directory.mkdir(parents=True, exist_ok=True)
        loader = model_download.__loader__
        source = loader.get_source(model_download.__name__)  # type: ignore[union-attr]
        script = self.directory / "model_download.py"
        script.write_text(source or "", encoding="utf-8")
        model_download.write_json(self.file, job)
        (self.directory / "status.json").unlink(missing_ok=True)
        with self.log.open("w") as log:
            child = subprocess.Popen(
                [python or sys.executable, "-I", script, self.file],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(job, token_file),
                cwd="/",
                start_new_session=True,
            )
        model_download.write_json(self.directory / "process.json", {"pid": child.pid})
        # On a busy machine a program has started a moment before its command line can be seen.
        process.until(lambda: self.pid() != 0 or not process.alive(child.pid), STOP_S, 0.01)

    def watch(self, seconds: float) -> bool:
        """Wait until the download is over, at most so long; return whether it runs still."""
        return not process.until(lambda: not self.pid(), seconds, POLL_S)

    def stop(self) -> bool:
        """End the download, if it runs; parts of files stay. Return whether it ran."""
        pid = self.pid()
        if pid:
            process.end([pid], STOP_S)
        return bool(pid)

    def status(self) -> dict[str, Any]:
        """Return what the download told last."""
        return model_download.read_json(self.directory / "status.json")

    def is_for(self, job: dict[str, Any]) -> bool:
        """Whether the download was started for just this job."""
        return model_download.read_json(self.file) == job

    def failure(self) -> str:
        """Return why it ended without success, with the end of its log."""
        message = self.status().get("message") or (
            "the download ended without a word (killed? out of memory?); run again: it goes on where it is"
        )
        lines = "\n".join(f"    {line}" for line in tail(str(self.log), LOG_LINES))
        return f"{message}\n  last lines of {self.log}:\n{lines}" if lines else str(message)


def environment(job: dict[str, Any], token_file: str) -> dict[str, str]:
    """Return the download's environment: the host's, with paths of secrets, never secrets themselves."""
    env = {k: v for k, v in os.environ.items() if k not in FOREIGN_ENV and k != "HF_HUB_OFFLINE"}
    # Python packages bring lists of certificate authorities of their own.
    bundle = next((b for b in CA_BUNDLES if Path(b).exists()), "")
    if bundle:
        env.setdefault("SSL_CERT_FILE", bundle)
        env.setdefault("AWS_CA_BUNDLE", env["SSL_CERT_FILE"])
    env.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DOWNLOAD_TIMEOUT="60")
    if job["source"] == "hub" and job["endpoint"]:
        env["HF_ENDPOINT"] = job["endpoint"]
    if token_file:
        env.pop("HF_TOKEN", None)
        env["HF_TOKEN_PATH"] = token_file
    if job["source"] == "s3" and job["credentials_file"]:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            env.pop(name, None)
        env["AWS_SHARED_CREDENTIALS_FILE"] = job["credentials_file"]
    return env

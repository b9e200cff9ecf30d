#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: model_download
short_description: Brings a model directory to a host, or looks whether it is complete
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Starts a download that is detached from the run, and waits for it. Its action plugin repeats short waits,
    says how far it is, and fails with the end of its log. A run that is broken off, or loses its connection,
    does not end the download, and the next run waits for it again.
  - Files are fetched into C(.wideep/partial) of the directory, where later runs go on, are checked against
    the source's digests, and are published by a rename.
  - Where hosts share the directory, one downloads, and the others wait and say for whom.
  - A directory that is complete costs no request. A file that we did not download is never overwritten.
options:
  path:
    description: Model directory on the host.
    type: str
    required: true
  state:
    description: V(absent) ends a download that is in progress; see O(remove_files).
    type: str
    choices: [present, absent]
    default: present
  source:
    description: >-
      V(hub) is one of Hugging Face's kind, V(http) a directory with a file C(SHA256SUMS), V(s3) a prefix of a
      bucket. V(path) only looks whether the directory is complete.
    type: str
    choices: [path, hub, http, s3]
    default: path
  job_dir:
    description: Directory of the download's own files on the host.
    type: str
    required: true
  repo:
    description: Repository, for V(hub).
    type: str
    default: ""
  revision:
    description: Commit, for V(hub).
    type: str
    default: ""
  url:
    description: C(http://…), C(https://…) or C(s3://bucket/prefix).
    type: str
    default: ""
  endpoint:
    description: Base URL of the hub, or of the S3 service. Without it huggingface.co, or AWS.
    type: str
    default: ""
  token_file:
    description: File on the host with the hub's token. It may be absent.
    type: str
    default: ""
  credentials_file:
    description: File on the host, netrc for V(http), AWS credentials for V(s3).
    type: str
    default: ""
  exclude:
    description: Patterns of names that are left out.
    type: list
    elements: str
    default: []
  parallel:
    description: Files that are fetched at once.
    type: int
    default: 8
  rehash:
    description: Read and check files again that were found right before.
    type: bool
    default: false
  python:
    description: Interpreter of the download; it has huggingface_hub or boto3. Without it the module's own.
    type: str
    default: ""
  remove_files:
    description: With O(state=absent), remove the files that were downloaded.
    type: bool
    default: false
  host:
    description: Set by the action plugin.
    type: str
    default: ""
  slice_s:
    description: Longest time in seconds that one call on the host takes.
    type: float
    default: 5
  attach:
    description: Set by the action plugin.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says whether something would be downloaded; asks no source.
    support: full
  diff_mode:
    description: Names the source of a directory that is not complete.
    support: full
"""

EXAMPLES = r"""
- name: Download the model
  wideep.dynamo.model_download:
    path: /data/models/DeepSeek-R1
    job_dir: /var/lib/wideep/cache/model-download
    source: http
    url: https://mirror.example.com/models/DeepSeek-R1
"""

RETURN = r"""
state:
  description: V(complete), V(running), or V(missing) in check mode.
  returned: success
  type: str
progress:
  description: >-
    C(state), C(done) and C(total) bytes, C(rate) in bytes per second, C(files), C(files_done), C(holder).
  returned: while it runs
  type: dict
model:
  description: What is in the directory.
  returned: when it is complete
  type: dict
removed:
  description: Files that were removed.
  returned: state is absent
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.model_download import (
    DownloadError,
    identity,
    is_complete,
    remove,
)
from ansible_collections.wideep.dynamo.plugins.module_utils.model_files import inspect
from ansible_collections.wideep.dynamo.plugins.module_utils.model_job import Job

JOB = ("path", "source", "repo", "revision", "url", "endpoint", "credentials_file", "exclude", "parallel")


def main() -> None:
    string = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "source": {"choices": ["path", "hub", "http", "s3"], "default": "path"},
            "job_dir": {"type": "str", "required": True},
            **dict.fromkeys(("repo", "revision", "url", "endpoint", "credentials_file"), string),
            "token_file": {**string, "no_log": False},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "parallel": {"type": "int", "default": 8},
            "rehash": {"type": "bool", "default": False},
            "python": string,
            "remove_files": {"type": "bool", "default": False},
            "host": string,
            "slice_s": {"type": "float", "default": 5},
            "attach": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        result = _absent(module) if given["state"] == "absent" else _present(module)
    except DownloadError as problem:
        module.fail_json(msg=str(problem))
    except OSError as problem:
        module.fail_json(
            msg=f"{problem.filename or given['path']}: {problem.strerror}; correct its owner, or set"
            " wideep_state_dir or wideep_model_path to a directory that this user can write"
        )
    module.exit_json(**result)


def _present(module: AnsibleModule) -> dict[str, Any]:
    given, path = module.params, Path(module.params["path"])
    if given["source"] == "path":
        return {"changed": False, "state": "complete", "model": inspect(path)}
    token = given["token_file"] if given["token_file"] and Path(given["token_file"]).is_file() else ""
    without = f"none ({given['token_file']} does not exist)" if given["token_file"] else ""
    job = {
        **{name: given[name] for name in JOB},
        "host": given["host"],
        "rehash": given["rehash"],
        "token": f"that of {token}" if token else without,
    }
    work = Job(Path(given["job_dir"]))
    running = bool(work.pid()) and work.is_for(job)
    if not running and not given["attach"]:
        if is_complete(job) and not given["rehash"]:
            return {"changed": False, "state": "complete", "model": inspect(path)}
        if module.check_mode:
            text = f"{identity(job)} to {path}"
            diff = {"before": "", "after": f"{text}\n"}
            return {"changed": True, "state": "missing", "msg": f"would download {text}", "diff": diff}
        work.start(job, given["python"], token)
    if module.check_mode:
        return {"changed": True, "state": "missing", "msg": "a download is in progress"}
    if work.watch(given["slice_s"]):
        return {"changed": False, "state": "running", "progress": work.status()}
    if not is_complete(job):
        raise DownloadError(work.failure())
    outcome = work.status()
    if outcome.get("unchecked"):
        module.warn(
            f"{path}: {outcome['unchecked']} files were checked by size only, as {identity(job)} gives no"
            " SHA-256 of them; put a file SHA256SUMS beside them"
        )
    return {"changed": bool(outcome.get("fetched")), "state": "complete", "model": inspect(path)}


def _absent(module: AnsibleModule) -> dict[str, Any]:
    given = module.params
    work = Job(Path(given["job_dir"]))
    stopped = bool(work.pid())
    if stopped and not module.check_mode:
        work.stop()
    removed = remove(Path(given["path"]), check=module.check_mode) if given["remove_files"] else []
    text = "".join(f"{name}\n" for name in removed)
    diff = {"before": text, "after": ""}
    return {"changed": bool(stopped or removed), "removed": removed, "diff": diff if removed else {}}


if __name__ == "__main__":
    main()

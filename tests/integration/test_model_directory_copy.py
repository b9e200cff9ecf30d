"""model_directory as Ansible runs it: files go to the host over a real local connection."""

from __future__ import annotations

from pathlib import Path

from ansible_runs import module

FILES = {"config.json": "{}", "tokenizer.json": "[1]"}


def test_the_directory_comes_to_the_host(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    for name, text in FILES.items():
        (source / name).write_text(text, encoding="utf-8")

    def ansible(*options: str) -> str:
        """Return CHANGED or SUCCESS."""
        done = module("wideep.dynamo.model_directory", {"src": str(source), "path": str(target)}, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split("|")[1].split()[0]

    assert ansible("--check") == "CHANGED"
    assert not target.exists()
    assert ansible() == "CHANGED"
    assert {p.name: p.read_text(encoding="utf-8") for p in target.iterdir()} == FILES
    assert ansible() == "SUCCESS"

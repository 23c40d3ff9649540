#!/bin/sh
# Collects what hpcens needs beside PyTorch's own image, as wheels of a Python, for a machine without a network:
#   tests/gpu/wheels.sh [FOLDER] [PYTHON]      by default .whl and 3.12, for x86-64
# There: tests/gpu/validate.sh takes them from the same folder. About 18 MB.
set -eu
folder=${1:-.whl}
python=${2:-3.12}
platforms=
for of in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux_2_5 manylinux1; do
  platforms="$platforms --platform ${of}_x86_64"
done
rm -rf "$folder"
mkdir -p "$folder"
# pydantic takes exactly one version of its core: asked for by what pydantic itself says
fetch() {
  # shellcheck disable=SC2086
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version "$python" --implementation cp \
    $platforms -d "$folder" "$@"
}
fetch mpich mpi4py pydantic annotated-types typing-inspection typing-extensions submitit xxhash cloudpickle safetensors \
  nvidia-ml-py
core=$(unzip -p "$folder"/pydantic-[0-9]*.whl '*/METADATA' | sed -n 's/^Requires-Dist: pydantic-core==\([^; ]*\).*/\1/p')
fetch "pydantic-core==$core"
du -sh "$folder"

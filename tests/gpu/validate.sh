#!/bin/sh
# Validates hpcens on a machine with one GPU, in one call of at most eight minutes; leaves JSON and logs in $OUT.
# Its benchmark takes five more, in a call of its own: --only benchmark.
#   tests/gpu/validate.sh [--cpu] [--only STAGE,…] [--wheels FOLDER]
# --cpu tries the script itself on CPU devices and the stand-in for CUDA. No network is needed: see wheels.sh.
set -u
cd "$(dirname "$0")/../.." || exit 2
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD" OUT="${OUT:-$PWD/out}"
mkdir -p "$OUT"
python=${PYTHON:-python3}
wheels=.whl
previous=
for argument; do
  [ "$previous" = --wheels ] && wheels=$argument
  previous=$argument
done
if ls "$wheels"/*.whl >/dev/null 2>&1; then
  # into the environment itself: mpi4py looks for libmpi below sys.prefix, hpcens for mpiexec beside python
  "$python" -m pip install -q --no-index --no-deps --no-cache-dir --upgrade "$wheels"/*.whl >"$OUT/pip.log" 2>&1 ||
    { tail -5 "$OUT/pip.log"; exit 2; }
fi
exec "$python" tests/gpu/validate.py "$@"

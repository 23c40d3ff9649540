"""Stages of a validation on one GPU, the most valuable first; each has its own time, and goes on after a failure.

    card      driver, torch, MPI
    contract  pytest -m gpu: what only a card shows
    bytes     one sha256 of four runs: plain, again, launch-blocking, killed twice and resumed
    memory    runs that do not fit end in words, smaller batches or phases, to the same bytes as in one
    probe     copies, launches, context
    speed     ResNet-50, ViT-B, MLPs: hpcens beside an ideal loop
    compiled  the contract of the compiled runtime, whose preparation takes long
    benchmark jobs/benchmark_gpu.py, beside an ideal, PyTorch and Lightning; only where asked for: it takes five minutes

Figures go to $OUT/validation.json after every stage, what was printed to $OUT/validation.log; a table is printed at
the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "jobs"))
from benchmark_card import end_tree  # noqa: E402

OUT = Path(os.environ.get("OUT", ROOT / "out"))
WORK = Path(tempfile.mkdtemp(prefix="hpcens-validation-"))
# stage → seconds; together with what starting takes, less than eight minutes
STAGES = {"card": 20, "contract": 100, "bytes": 80, "memory": 65, "probe": 15, "speed": 135, "compiled": 40}
BENCHMARK = 310
_REPORTING = 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="try the script on CPU devices")
    parser.add_argument("--only", default=",".join(STAGES))
    parser.add_argument("--wheels")
    asked = parser.parse_args()
    figures: dict[str, object] = {"cpu": asked.cpu, "began": time.time()}
    for name in asked.only.split(","):
        figures[name] = _stage(name, cpu=asked.cpu)
        (OUT / "validation.json").write_text(json.dumps(figures, indent=1))
    print(f"\n{'stage':10} {'code':>5} {'s':>7}  figures")
    for name in asked.only.split(","):
        told = figures[name]
        print(f"{name:10} {told['code']:>5} {told['seconds']:>7.1f}  {json.dumps(told['figures'])[:600]}")
    shutil.rmtree(WORK, ignore_errors=True)
    return 0 if all(figures[name]["code"] == 0 for name in asked.only.split(",")) else 1


def _stage(name: str, *, cpu: bool) -> dict[str, object]:
    """Run a stage in a process group of its own; return its code (124: out of time), seconds and figures."""
    file, log, limit = WORK / f"{name}.json", WORK / f"{name}.log", (STAGES | {"benchmark": BENCHMARK})[name]
    environment = {**os.environ, "HPCENS_VALIDATION": str(file), "HPCENS_CACHE": str(WORK / "cache")}
    if cpu:
        environment["HPCENS_GPU_TESTS"] = "cpu"
        limit *= 4
    command = [sys.executable, str(HERE / "stages.py"), name]
    if name in ("contract", "compiled"):
        environment["HPCENS_COMPILED"] = "1" if name == "compiled" else ""
        chosen = "compiled" if name == "compiled" else "not compiled"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-W", "default", "-m", "gpu", "-k", chosen]
        command += ["--timeout", str(limit), "-p", "no:cacheprovider", str(HERE)]
    folder = WORK / "benchmark"
    if name == "benchmark":
        command = [sys.executable, str(ROOT / "jobs" / "benchmark_gpu.py"), str(folder), "--as-loaded"]
        command += ["--seconds", str(limit - _REPORTING), "--limit", "90", "--rows", "3000"]
        command += ["--dry-run"] if cpu else []
    print(f"== {name}", flush=True)
    began = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            end_tree(process.pid)
            code = 124 + 0 * process.wait()
    seconds = time.monotonic() - began
    text = log.read_text(errors="replace")
    with (OUT / "validation.log").open("a") as whole:
        whole.write(f"== {name}: {code} after {seconds:.1f} s\n{text}\n")
    lines = text.splitlines()
    print("\n".join(lines[-12:] if name != "benchmark" else lines), flush=True)
    if (found := folder / "benchmark-gpu.json").exists():
        shutil.copy(found, OUT)
    figures = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {"code": code, "seconds": seconds, "figures": figures, "last": lines[-3:]}


if __name__ == "__main__":
    sys.exit(main())

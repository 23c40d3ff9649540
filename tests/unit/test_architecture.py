"""The house: imports only go down, each door is the only one, and the start imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "hpcens"

FLOORS = [
    {"errors", "processes"},
    {"specs", "segments", "devices", "usercode", "classes", "arrays"},
    {"plan", "profiles", "messages", "rules", "outputs", "config", "events", "timeline", "rundir"}
    | {"submission", "fingerprint", "description"},
    {"planners", "roles", "members", "runtimes", "store", "masking"},
    {"transports", "hands", "rematch", "profiler", "preflight", "combining", "trial", "controller", "experience"},
    {
        *("measuring", "opening", "surveying", "phases", "closing", "writing", "loading", "scoring", "heart"),
        *("requeue", "run"),
        *("rehearsal", "contract", "recombination", "export"),
        *("simulation", "comparison", "resources", "inventory"),
    },
    {"launch", "postmortem", "status", "report", "drawing"},
    {"planning"},
    {"cli", "verbs", "watching"},
]
# on one floor, in the order in which they may import each other
BESIDE = [
    ("members", "runtimes"),
    ("transports", "hands"),
    ("rematch", "profiler"),
    (
        "measuring",
        "opening",
        "surveying",
        "phases",
        "closing",
        "writing",
        "loading",
        "scoring",
        "heart",
        "requeue",
        "run",
    ),
    ("fingerprint"),
    ("submission", "rundir"),
    ("postmortem", "status"),
    ("report", "drawing"),
    ("verbs", "watching", "cli"),
    ("rehearsal", "contract"),
    ("resources", "inventory"),
]
DOORS = {
    "mpi4py": {"transports/mpi.py", "launch/world.py"},
    "torch": {
        "runtimes/hardware.py",
        "members/modules.py",
        "members/weights.py",
        "members/graphs.py",
        "members/onnx.py",
        "members/network.py",
        "members/preprocess.py",
        "members/forward.py",
        "runtimes/cpu.py",
        "runtimes/cuda.py",
        "runtimes/engine.py",
        "runtimes/recipe.py",
        "runtimes/prepare.py",
        "runtimes/channels_last.py",
        "runtimes/frozen.py",
        "runtimes/compiled.py",
        "runtimes/openvino.py",
        "runtimes/cuda_graphs.py",
    },
    "openvino": {"runtimes/openvino.py"},
    "safetensors": {"members/weights.py"},
    "onnx": {"members/onnx.py"},
    "onnxruntime": {"members/onnx.py"},
    "h5py": {
        "store/columns.py",
        "store/finished.py",
        "store/form.py",
        "store/hdf5.py",
        "store/packed.py",
        "store/part.py",
        "store/pipeline.py",
        "store/plugins.py",
        "store/seal.py",
        "store/table.py",
        "store/working.py",
    },
    "hdf5plugin": {"store/filters.py", "store/plugins.py"},
    "submitit": {"launch/job.py", "launch/slurm.py"},
    "argparse": {"cli.py", "verbs.py", "watching.py"},
    "rich": {"launch/follow.py"},
    "pydantic": {"config/__init__.py", "config/site.py"},
    "yaml": {"config/page.py"},
    "pyarrow": {"export.py"},
    "xxhash": {"store/checksum.py"},
}


def imports(path):
    """Modules a file imports, wherever in it; those under TYPE_CHECKING count."""
    for found in ast.walk(ast.parse(path.read_text())):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom) and found.module:
            yield found.module


def floor(noun):
    return next(i for i, nouns in enumerate(FLOORS) if noun in nouns)


def noun_of(module):
    return module.split(".")[1]


def sources():
    return [
        path for path in PACKAGE.rglob("*.py") if path.name not in ("__main__.py",) and path != PACKAGE / "__init__.py"
    ]


def test_imports_only_go_down():
    wrong = []
    for path in sources():
        relative = path.relative_to(PACKAGE).with_suffix("")
        here = relative.parts[0]
        for module in imports(path):
            if module.startswith("hpcens."):
                there = noun_of(module)
                beside = any(here in row and there in row and row.index(there) < row.index(here) for row in BESIDE)
                if there != here and not beside and floor(there) >= floor(here):
                    wrong.append(f"{relative} imports {module}")
    assert wrong == []


def test_each_door_is_the_only_one():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in sources()
        for module in imports(path)
        if module.split(".")[0] in DOORS and str(path.relative_to(PACKAGE)) not in DOORS[module.split(".")[0]]
    ]
    assert wrong == []


def test_modules_are_nouns_of_a_size_one_can_read():
    long = {str(p.relative_to(PACKAGE)): n for p in sources() if (n := len(p.read_text().splitlines())) > 300}
    assert long == {}
    vague = {"utils", "common", "helpers", "base", "core", "manager", "handler"}
    assert [path for path in sources() if path.stem in vague] == []


def test_start_imports_nothing_heavy():
    for start in ("import hpcens", "import hpcens.cli; hpcens.cli._parser().format_help()"):
        code = f"{start}; import sys; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        heavy = {"torch", "mpi4py", "h5py", "submitit", "numpy", "pydantic", "scipy", "yaml"}
        assert heavy & set(loaded) == set()

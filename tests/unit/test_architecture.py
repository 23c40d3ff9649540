"""The house: imports only go down, each door is the only one, and the start imports nothing heavy."""

import ast
import subprocess
import sys

import pytest
from support.house import ROOT, House, room

import hpcens

PACKAGE = ROOT / "hpcens"
# The one list: the package's own description, a room a line, from the top down.
LISTED = [line for line in hpcens.__doc__.splitlines() if line.startswith("    ")]
ROOMS = [line.split()[0] for line in LISTED]

DOORS = {
    "mpi4py": {"transports/mpi.py", "transports/collectives.py", "launch/as_rank.py"},
    "torch": {
        "engine/hardware.py",
        "members/modules.py",
        "members/featuriser.py",
        "members/fitting.py",
        "members/weights.py",
        "members/graphs.py",
        "members/onnx.py",
        "members/conversion.py",
        "members/network.py",
        "members/surroundings.py",
        "members/views.py",
        "members/casting.py",
        "members/prepared.py",
        "members/preprocess.py",
        "members/choice.py",
        "members/draws.py",
        "members/single_rows.py",
        "members/stacked.py",
        "members/forward.py",
        "engine/cpu.py",
        "engine/cuda.py",
        "engine/engine.py",
        "engine/judge.py",
        "engine/outputs.py",
        "engine/registered.py",
        "engine/staging.py",
        "engine/together.py",
        "runtimes/recipe.py",
        "runtimes/prepare.py",
        "runtimes/channels_last.py",
        "runtimes/frozen.py",
        "runtimes/compiled.py",
        "runtimes/openvino.py",
        "runtimes/tensorrt.py",
        "runtimes/cuda_graphs.py",
    },
    "pynvml": {"engine/gpus.py"},
    "openvino": {"runtimes/openvino.py"},
    "safetensors": {"members/weights.py"},
    "onnx": {"members/onnx_files.py"},
    "onnxruntime": {"members/onnx.py"},
    "h5py": {
        "dataset/chunks.py",
        "dataset/columns.py",
        "result/finished.py",
        "result/form.py",
        "dataset/hdf5.py",
        "result/packed.py",
        "result/packed_assembly.py",
        "dataset/extents.py",
        "dataset/file.py",
        "dataset/decoding.py",
        "dataset/direct.py",
        "dataset/guard.py",
        "dataset/dense.py",
        "dataset/forms.py",
        "dataset/ragged.py",
        "dataset/sparse.py",
        "dataset/layout.py",
        "dataset/plain.py",
        "dataset/links.py",
        "dataset/routes.py",
        "dataset/sources.py",
        "dataset/decompression.py",
        "dataset/plugins.py",
        "result/seal.py",
        "dataset/table.py",
        "dataset/types.py",
        "result/working.py",
    },
    "hdf5plugin": {"dataset/filters.py", "dataset/plugins.py"},
    "submitit": {"launch/submitit_local.py", "launch/slurm.py", "launch/queued.py"},
    "argparse": {
        "cli/__init__.py",
        "cli/blocks.py",
        "cli/job.py",
        "cli/judging_options.py",
        "cli/each.py",
        "cli/rank.py",
        "cli/start.py",
        "cli/configuration.py",
        "cli/guide.py",
        "cli/judging.py",
        "cli/completion.py",
        "cli/plans.py",
        "cli/results.py",
        "cli/runs.py",
        "cli/several.py",
    },
    "rich": {"reports/progress.py", "api/planned.py"},
    "xarray": {"api/labelled.py", "api/opened.py"},
    "pandas": {"api/labelled.py", "api/opened.py"},
    "pydantic": {"config/__init__.py", "config/calibration.py", "config/site.py"},
    "yaml": {"config/document.py"},
    "pyarrow": {"result/export.py"},
    "xxhash": {"result/checksum.py"},
}


def sources():
    return [
        path for path in PACKAGE.rglob("*.py") if path.name not in ("__main__.py",) and path != PACKAGE / "__init__.py"
    ]


@pytest.fixture(scope="module")
def house():
    return House()


def test_every_room_is_listed_once(house):
    assert sorted(ROOMS) == house.rooms


def test_imports_only_go_down(house):
    assert house.crossing
    wrong = [f"{a} imports {b}" for a, b in house.crossing if ROOMS.index(room(a)) >= ROOMS.index(room(b))]
    assert wrong == []


def test_no_modules_of_a_room_import_each_other_in_a_circle(house):
    inside = {(a, b) for a, b in house.arrows if room(a) == room(b) and a != b}
    assert inside
    left = {name for arrow in inside for name in arrow}
    while leaves := {name for name in left if not any(a == name and b in left for a, b in inside)}:
        left -= leaves
    assert left == set()


def test_the_guide_shows_the_same_map():
    """Each line of the list, in its order."""
    page = (PACKAGE / "guide" / "architecture.md").read_text()
    places = [page.find(line) for line in LISTED]
    assert -1 not in places and places == sorted(places)


def imports(path):
    """Modules a file imports, wherever in it; those under TYPE_CHECKING count."""
    for found in ast.walk(ast.parse(path.read_text())):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom) and found.module:
            yield found.module


def test_each_door_is_the_only_one_and_is_gone_through():
    through = {module: set() for module in DOORS}
    for path in sources():
        for module in {name.split(".")[0] for name in imports(path)} & DOORS.keys():
            through[module].add(str(path.relative_to(PACKAGE)))
    assert through == DOORS


def test_no_test_is_imported_by_another():
    files = sorted((ROOT / "tests").rglob("*.py"))
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"support"}
    assert {"unit", "runs", "drills"} <= folders and len(files) > 100
    wrong = {str(path) for path in files for module in imports(path) if module.split(".")[0] in folders}
    assert wrong == set()


def test_modules_are_nouns_of_a_size_one_can_read():
    long = {str(p.relative_to(PACKAGE)): n for p in sources() if (n := len(p.read_text().splitlines())) > 300}
    assert long == {}
    vague = {"utils", "common", "helpers", "base", "core", "manager", "handler"}
    assert [path for path in sources() if path.stem in vague] == []


def test_start_imports_nothing_heavy():
    for start in ("import hpcens", "import hpcens.cli; hpcens.cli.command_parser().format_help()"):
        code = f"{start}; import sys; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        heavy = {"torch", "mpi4py", "h5py", "submitit", "numpy", "pydantic", "scipy", "yaml", "rich"}
        assert "hpcens" in loaded and heavy & set(loaded) == set()

"""A small result, scored in the virtual world, and what must hold of it."""

import hashlib
import json

import h5py
import numpy as np

from hpcens.processes import Process
from hpcens.result.form import Form
from hpcens.result.outputs import Output
from hpcens.result.result import Result, standing
from hpcens.roles.dispatch import Shares
from hpcens.runs import Claim, Epoch, RunDirectory
from hpcens.specs import CompressionSpec
from hpcens.vocabulary import Bad, Predicted, Segmentation
from support.lossy import Crash, LossyDisk
from support.wiring import Wiring

ROWS, SEGMENT = 22, 4
MEMBERS = ("a", "b")
GZIP = CompressionSpec(name="gzip")
DATA = np.arange(ROWS, dtype=np.float32)


def form(folder, compression=None):
    weights = folder / "a.safetensors"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    attributes = {"fingerprint": "{}", "members": json.dumps({"a": {"path": str(weights), "weights": digest}})}
    outputs = (
        Output("prediction", (2,), "<f4", {"description": "what comes out"}, class_axis=1),
        Output("label", (), "<i4"),
    )
    return Form(
        outputs=outputs,
        segmentation=Segmentation(ROWS, SEGMENT),
        attributes=attributes,
        classes=("down", "up"),
        documents={"plan": "{}"},
        compression=compression,
    )


def directory(folder):
    run = RunDirectory.of(folder / "out.h5")
    run.path.mkdir(exist_ok=True)
    return run


def begin(run):
    """The next epoch, without asking whether the one before is alive: here it is this very process."""
    number = run.newest.number + 1 if run.newest else 1
    folder = run.path / "epochs" / f"{number:04d}"
    folder.mkdir(parents=True)
    (folder / "claim.json").write_text(Claim(number, str(number), 0.0, None, Process.current()).to_json())
    return Epoch(folder)


def score(run, folder, disk, compression=None, told=None, epoch=None):
    """One start in the virtual world; returns the segments that the reader was told are durable, added to `told`."""
    told = [] if told is None else told
    try:
        result = Result.open(run, epoch or begin(run), form(folder, compression), disk)
    except Crash:
        disk.crash()
        return ()
    segmentation = Segmentation(ROWS, SEGMENT)
    wiring = Wiring(
        segments=result.missing,
        members=MEMBERS,
        shares=Shares({"a": {2: 1.0, 3: 1.0}, "b": {3: 1.0}}),
        devices=[2, 3],
        read=lambda segment: (DATA[slice(*segmentation.bounds(segment))],),
        predict=predict,
        write=lambda rank, task: result.write(task.segment, values(task.stack), {}, {0: task.bad[0]}),
        flush=lambda rank, segments: result.flush(segments),
        watch=lambda progress: told.extend(progress.segments),
    )
    try:
        wiring.run()
        assert result.revoke_damaged() == []
        assert result.masked() == [(0, "output", 4, SEGMENT)]
        result.finish(folder / "out.h5", {"rows": ROWS})
        result.close()
    except Crash:
        disk.crash()
    return told


def predict(task):
    for member in task.members:
        values = np.stack([task.rows[0], -task.rows[0]], 1) + MEMBERS.index(member)
        bad = (Bad("output", (0, 2)),) if (task.segment, member) in ((1, "a"), (4, "a")) else ()
        yield Predicted(task.segment, member, values, 8, bad=bad)


def values(stack):
    prediction = (stack[0] + 3 * stack[1]).astype(np.float32)
    return {"prediction": prediction, "label": prediction[:, 0].astype(np.int32)}


def content(path):
    with h5py.File(path) as file:
        return file["prediction"][:].tobytes(), file["label"][:].tobytes()


def outputs(path):
    """All datasets of rows of a result, also while something else has it open."""
    with h5py.File(path, "r", locking=False) as file:
        return {name: file[name][()] for name in file.attrs["outputs"]}


def bytes_of(path):
    return {name: array.tobytes() for name, array in outputs(path).items()}


WHOLE = values([np.stack([DATA, -DATA], 1), np.stack([DATA, -DATA], 1) + 1])
EXPECTED = tuple(array.tobytes() for array in WHOLE.values())


def check_nothing_reported_is_lost(run, folder, reported):
    """Whatever a reader was told is durable: journalled, and its very bytes on the disk."""
    kept = standing(run)
    assert set(reported) <= set(kept.written() if kept else ()), "reported and not journalled"
    finished = folder / "out.h5"
    with h5py.File(finished if finished.exists() else run.path / kept.header.working if kept else finished) as file:
        for segment in reported:
            rows = slice(*Segmentation(ROWS, SEGMENT).bounds(segment))
            assert file["prediction"][rows].tobytes() == WHOLE["prediction"][rows].tobytes(), "reported and lost"
            assert file["label"][rows].tobytes() == WHOLE["label"][rows].tobytes(), "reported and lost"


def calls_of_a_whole_run(folder, compression=None):
    folder.mkdir()
    disk = LossyDisk()
    score(directory(folder), folder, disk, compression)
    assert content(folder / "out.h5") == EXPECTED
    return disk.calls


def check_description(file):
    assert file["prediction"].attrs["description"] == "what comes out"
    assert file["prediction"].dims[0].label == "row" and file["prediction"].dims[1].label == "class"
    assert file["prediction"].dims[1]["classes"].asstr()[:].tolist() == ["down", "up"]
    assert (
        json.loads(bytes(file["hpcens/plan"][:])) == {} and json.loads(bytes(file["hpcens/summary"][:]))["rows"] == ROWS
    )


def flip(path, name, at):
    """Change one byte of a dataset behind everybody's back."""
    with h5py.File(path) as file:
        offset = file[name].id.get_offset()
    with path.open("rb+") as raw:
        raw.seek(offset + at)
        byte = raw.read(1)[0]
        raw.seek(offset + at)
        raw.write(bytes([byte ^ 0xFF]))

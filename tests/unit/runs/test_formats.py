"""The tables of file formats name the fields that the code writes, all of them and no others."""

import json
import re
import struct
import zlib
from dataclasses import fields
from pathlib import Path

import pytest

import hpcens.result
import hpcens.runs
from hpcens.processes import Process, node
from hpcens.profiling import ProfileBook, book
from hpcens.result.description import describe_result, unsteady_of
from hpcens.result.disk import Disk
from hpcens.result.fingerprint import FORMAT_2, make_fingerprint
from hpcens.result.journal import Header, Journal, Kind, Record
from hpcens.runs import (
    Claim,
    Finding,
    InstanceReport,
    MaskedRows,
    RankReport,
    Report,
    RunDirectory,
    SlurmJob,
    Submission,
    Verdict,
    events,
    report,
    sign,
)
from hpcens.runs.requeue import Requeue
from hpcens.runs.scheduler_answer import note
from hpcens.scheduler.jobs import Answer
from hpcens.specs import Calibration, KeepSpec, OutputSpec, RunSpec
from hpcens.vocabulary import Device, IoRates, Numerics, Plan, Profile, ProfileKey, plan


def names(kind):
    return {entry.name for entry in fields(kind)}


def section(room, title):
    """The rows of the tables below a title, each a list of cells; and the format it names."""
    start = re.search(rf"^{title} \(`", room.__doc__, re.M).start()
    end = re.compile(r"^\w[\w' ]* \(`", re.M).search(room.__doc__, start + 1)
    text = room.__doc__[start : end.start() if end else None]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    number = re.search(r"format (\d)", text.partition("\n\n")[0])
    return [row for row in rows if not set("".join(row)) <= {"-"}], int(number[1])


def quoted(cells):
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def first_column(title):
    return quoted(row[0] for row in section(hpcens.runs, title)[0])


def test_events():
    rows, number = section(hpcens.runs, "Events")
    assert number == events.FORMAT
    listed, current = {}, None
    for event, field, *_ in rows[1:]:
        current = event or current
        listed.setdefault(current, set()).update(quoted([field]))
    assert listed.pop("(all)") == {"format", "time", "event"}
    assert {name: found | {"time"} for name, found in listed.items()} == {
        name: names(kind) for name, kind in events.KINDS.items()
    }
    kinds = next(row[3] for row in rows if "`event`" in row[1])
    assert set(re.findall(r"\w+", kinds.replace(" or ", ", "))) == set(events.KINDS)


def test_report():
    rows, number = section(hpcens.runs, "Report")
    assert number == report.FORMAT
    assert first_column("Report") == names(Report) | {"format"}
    parts, current = {}, None
    for field, _, meaning in rows:
        current = field or current
        parts.setdefault(current, set()).update(quoted([meaning]))
    assert parts["`instances`"] == names(InstanceReport)
    assert parts["`ranks`"] == names(RankReport)
    assert parts["`masked`"] == names(MaskedRows)


@pytest.mark.parametrize(
    ("title", "fields"),
    [
        ("Claim", names(Claim) - {"process"} | names(Process)),
        ("Signature", {"rank", "role"} | names(Process)),
        ("Verdict", names(Verdict)),
        ("Requeue", names(Requeue)),
        ("Submission", names(Submission)),
        ("Finding", names(Finding)),
    ],
)
def test_fields(title, fields):
    assert first_column(title) == fields
    assert section(hpcens.runs, title)[1] == 1


def test_profiles():
    assert section(hpcens.runs, "Profiles")[1] == book.FORMAT
    assert first_column("Profiles") == names(Profile) | {"key", "format"}


def test_plan():
    rows, number = section(hpcens.runs, "Plan")
    assert number == plan.FORMAT
    assert first_column("Plan") == names(Plan) | {"gap", "format"}
    parts, current = {}, None
    for field, _, meaning in rows:
        current = field or current
        parts.setdefault(current, set()).update(quoted([meaning]))
    assert parts["`devices`"] == names(Device)
    assert parts["`rates`"] == names(IoRates)


def test_fields_as_they_are_written(tmp_path):
    run = RunDirectory(tmp_path / "x.run")
    run.path.mkdir()
    job = SlurmJob("7", "c", 0, "x")
    epoch = run.begin(job)
    claim = json.loads(epoch.claim.read_text())
    assert claim.keys() == first_column("Claim") | {"checksum"}
    meaning = next(row[2] for row in section(hpcens.runs, "Claim")[0] if row[0] == "`job`")
    assert claim["job"].keys() == quoted([meaning])
    sign(epoch, 3, "parked")
    assert json.loads((epoch.ranks / f"{node()}.jsonl").read_text()).keys() == first_column("Signature") | {"checksum"}
    epoch.judge(Verdict(0, "done"))
    assert json.loads((epoch.folder / "verdict.json").read_text()).keys() == first_column("Verdict") | {"checksum"}
    note(run, {"7": Answer("RUNNING")})
    answer = json.loads((run.path / "controller.json").read_text())
    assert answer.keys() == first_column("Slurm's answer") | {"checksum"}
    meanings = [row[2] for row in section(hpcens.runs, "Slurm's answer")[0]][-1:]
    assert answer["answers"]["7"].keys() == quoted(meanings)
    kept = ProfileBook(tmp_path / "profiles")
    key = ProfileKey("cpu", "m", "eager", "<f4[3]", "2.4")
    kept.put(key, Profile(1, 2, 0.5, (4,)))
    profile = json.loads((kept.folder / f"{key.digest}.json").read_text())
    assert profile.keys() == first_column("Profiles")
    meaning = next(row[2] for row in section(hpcens.runs, "Profiles")[0] if row[0] == "`key`")
    assert profile["key"].keys() == quoted([meaning])


def test_journal(tmp_path):
    """Every byte of a record lies where the table says."""
    rows, number = section(hpcens.result, "Journal")
    bytes_of = {row[2].partition(",")[0].partition(":")[0]: row[0] for row in rows if len(row) == 3}
    assert {int(row[0]): row[1] for row in rows if row[0].isdigit() and row[1].isupper()} == {
        kind.value: kind.name for kind in Kind
    }
    header = Header(3, "ab", "working-0003.h5", 9, 2)
    record = Record(Kind.REDUCED, segment=1 << 40, checksum=1 << 63, member=513, batch=1 << 20, time=1.5)
    journal = Journal(Disk(), tmp_path / "journal", header)
    journal.append([record])
    journal.sync()
    journal.close()
    data = (tmp_path / "journal").read_bytes()

    def part(name, base=1024):
        first, _, last = bytes_of[name].partition("–")
        return data[base + int(first) : base + int(last or first) + 1]

    magic = next(row for row in rows if "hpcens journal" in row[2])
    first, last = map(int, magic[0].split("–"))
    assert data[first : last + 1] == b"hpcens journal %d\n" % number
    fixed = next(row for row in rows if row[1] == "JSON")
    first, last = map(int, fixed[0].split("–"))
    assert json.loads(data[first : last + 1]) == [3, "ab", "working-0003.h5", 9, 2]
    assert len(data) == last + 1 + 40
    whole = {name: int.from_bytes(part(name), "little") for name in ("kind", "member", "batch", "segment", "checksum")}
    assert whole == {"kind": 2, "member": 513, "batch": 1 << 20, "segment": 1 << 40, "checksum": 1 << 63}
    assert struct.unpack("<d", part("time")) == (1.5,)
    assert int.from_bytes(part("CRC-32 of bytes 0–31"), "little") == zlib.crc32(data[1024 : 1024 + 32])


def test_attributes_and_fingerprint():
    """But for the branches of data and members, which are as deep as their files and modules are many."""
    spec = RunSpec(members=())
    numerics = Numerics(16, {}, ("cpu",), "2.4.0")
    tree = make_fingerprint(spec, data={}, members={}, rule={}, space="logits", numerics=numerics)
    rows, _ = section(hpcens.result, "Fingerprint")
    listed, current = {}, None
    for branch, field, _ in rows[1:]:
        current = branch or current
        listed.setdefault(current.strip("`"), set()).update(quoted([field]))
    assert listed.keys() == tree.keys()
    assert {name: listed[name] for name in ("rule", "outputs", "numerics")} == {
        name: set(tree[name]) for name in ("rule", "outputs", "numerics")
    }
    added, _ = section(hpcens.result, "Added keys")
    assert quoted(row[0] for row in added[1:]) == {".".join(key.place) for key in FORMAT_2}
    kept, calibration = OutputSpec(keep=KeepSpec(top=1)), Calibration(path=Path("c.json"), kind="classes")
    spec = RunSpec(members=(), output=kept, calibration=calibration)
    tree = make_fingerprint(spec, data={"rows": 9}, members={}, rule={}, space="logits", numerics=numerics)
    often = {"passes": '{"count": 2, "seed": 0}'}
    tree["members"]["a"] = {"output": "logits", "numerics": {"precision": "float32"}, **often}
    written = describe_result(
        spec,
        tree,
        members={},
        datasets=[],
        library="",
        unsteady={"a": {"alone": 0.1}},
        warnings=["it looks wrong"],
        combined_from="{}",
    )
    tables, _ = section(hpcens.result, "Result")
    heads = [row[0] for row in tables].index("attribute")
    assert quoted(row[0] for row in tables[heads:]) == set(written) | {"outputs", "segment_rows"}


def test_a_result_says_nothing_of_members_that_are_steady():
    """So that what it says of itself stays as it was."""
    spec, numerics = RunSpec(members=()), Numerics(16, {}, ("cpu",), "2.4.0")
    tree = make_fingerprint(spec, data={}, members={}, rule={}, space="logits", numerics=numerics)
    quiet = describe_result(spec, tree, members={}, datasets=[], library="", unsteady={})
    assert "unsteady" not in quiet and "warnings" not in quiet
    attributes = describe_result(spec, tree, members={}, datasets=[], library="", unsteady={"a": {"alone": 0.1}})
    assert unsteady_of(attributes, ["a", "b"]) == {"a": {"alone": 0.1}} and unsteady_of(attributes, ["b"]) == {}
    assert unsteady_of({}, ["a"]) == {}

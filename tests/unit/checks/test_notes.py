"""What is no fault of a job, and said before it starts: once, in a line, and only where it is so."""

from dataclasses import replace
from pathlib import Path

from hpcens.checks.notes import notes
from hpcens.checks.preflight import Preflight
from hpcens.dataset import Facts
from hpcens.specs import Job, MemberSpec, RunSpec

MEMBERS = tuple(MemberSpec(name=name, factory="m:f", weights=Path(f"{name}.pt")) for name in "abcde")
JOB = Job(datasets=(Path("x.h5"),), output=Path("out.h5"), spec=RunSpec(members=MEMBERS))


def preflight(digests, **more):
    return Preflight(
        Facts(3, (), {}), {name: {"weights": digest} for name, digest in digests.items()}, {}, "logits", **more
    )


def test_members_that_are_one_network_are_named_once():
    assert list(notes(JOB, preflight(dict(zip("abcde", "12345", strict=True))))) == []
    assert list(notes(JOB, preflight(dict(zip("abcde", "12213", strict=True))))) == [
        "a and d are the same network: its weights, code, arguments and inputs are the same",
        "b and c are the same network: its weights, code, arguments and inputs are the same",
    ]
    [line] = notes(JOB, preflight(dict.fromkeys("abcde", "1")))
    assert line.startswith("a, b, c, d and e are the same network")
    used = replace(JOB.spec, members=(MEMBERS[0], replace(MEMBERS[1], precision="float64")))
    assert list(notes(replace(JOB, spec=used), preflight(dict.fromkeys("ab", "1")))) == []


def test_a_complete_result_is_not_replaced_without_a_word():
    [line] = notes(JOB, preflight(dict(zip("abcde", "12345", strict=True)), stored=("a", "b", "c", "d")))
    assert line == (
        "out.h5 is complete with a and 3 more: e alone will be scored and added;"
        " the file is replaced once the new one is whole"
    )

"""Profiles as a person judges them: whose they are, when they were taken, and how far they are to be trusted."""

import time
from dataclasses import replace
from itertools import islice

import pytest

from hpcens.cli import main
from hpcens.profiling import ProfileBook
from hpcens.reports.profiles import profile_lines
from hpcens.vocabulary import BatchProfile, Profile, ProfileKey

KEY = ProfileKey("cpu×1 model", "0123456789abcdef", "eager", "row", "2.13")
TAKEN = time.mktime((2026, 3, 4, 15, 6, 0, 0, 0, -1))
PROFILE = Profile(1 << 20, 0, 1.0, (4,), {4: BatchProfile(4, 33_344.0, 0, 0.04, 9)}, (4,), name="m0", measured=TAKEN)


@pytest.fixture
def book(tmp_path):
    return ProfileBook(tmp_path / "profiles")


def listed(book, **changes):
    """The line of the one profile, below those of its kind of device and its member."""
    book.put(KEY, replace(PROFILE, **changes))
    return next(islice(profile_lines(book), 2, None))


def batch(**figures):
    return {4: replace(PROFILE.batches[4], **figures)}


def test_a_profile_says_whose_it_is_and_when_it_was_taken(book):
    assert listed(book) == "    eager  04 Mar 2026 15:06  33,300 rows/s ± 2 % in batches of 4"
    assert [*profile_lines(book)][:2] == ["cpu×1 model, torch 2.13:", "  m0 (01234567), 1.0 MiB of memory"]
    several = {size: BatchProfile(size, speed, 0, 0.0, 5) for size, speed in ((8, 3.0), (16, 9.0), (32, 8.0))}
    assert listed(book, batches=several, tried=(4, 8, 16, 32)).endswith(
        "9 rows/s ± under 1 % in batches of 16 (tried: 8, 16, 32)"
    )
    assert "date not known" in listed(book, name="", measured=0.0)
    assert [*profile_lines(book)][1].startswith("  member (01234567)")


@pytest.mark.parametrize(
    ("figures", "end"),
    [
        ({"passes": 1, "spread": 0.0}, "33,300 rows/s (one pass) in batches of 4"),
        ({"passes": 0, "spread": 0.0}, "33,300 rows/s in batches of 4"),
        ({"passes": 0, "spread": 0.3}, "33,300 rows/s ± 15 % in batches of 4"),
        ({"passes": 5, "spread": 0.0}, "33,300 rows/s ± under 1 % in batches of 4"),
        ({"passes": 5, "spread": 0.019}, "33,300 rows/s ± under 1 % in batches of 4"),
    ],
)
def test_figures_never_seem_more_exact_than_they_are(book, figures, end):
    line = listed(book, batches=batch(**figures))
    assert line.endswith(end) and "± 0 %" not in line


def test_what_was_taken_on_a_loaded_machine_is_marked(book):
    assert "15:06 *  33,300" in listed(book, batches=batch(core_share=0.4))
    assert list(profile_lines(book))[-1].startswith("(*: the machine did other work meanwhile")
    assert " *" not in listed(book)
    assert not any("other work" in line for line in profile_lines(book))


def test_runtimes_that_do_not_pay_yet_are_one_line_without_the_rows_of_a_run(book):
    book.put(KEY, PROFILE)
    refused = "preparing it would not pay for 22 rows"
    for runtime, rows in (("frozen", 26_783), ("openvino", 3_270_325)):
        later = replace(PROFILE, batches={}, refused=refused, worth_from=rows, name="")
        book.put(replace(KEY, runtime=runtime), later)
    _, _, first, second, *_ = profile_lines(book)
    assert "eager" in first and second == (
        "    not tried yet, since it pays only from so many rows on: frozen 26,800, openvino 3,270,000"
    )


def test_members_of_this_configuration_are_listed_and_the_others_named(book):
    book.put(KEY, PROFILE)
    older = replace(PROFILE, name="was m0", measured=TAKEN - 1)
    for member, profile in {"1" * 16: replace(PROFILE, name="m1"), "2" * 16: older}.items():
        book.put(replace(KEY, member=member), profile)
    book.put(replace(KEY, member="2" * 16, runtime="frozen"), replace(PROFILE, name="m2"))
    lines = [*profile_lines(book, ("m0", "m2", "m9"))]
    assert [line for line in lines if line.startswith("  m")] == [
        "  m0 (01234567), 1.0 MiB of memory",
        "  m2 (22222222), 1.0 MiB of memory",
    ]
    assert lines[-1] == "not shown: m1; to see all that is kept: hpcens profile --list --all"
    assert max(map(len, lines)) <= 120
    book.put(replace(KEY, member="3" * 16, runtime="stacked"), replace(PROFILE, name="m0 … m2 (2)"))
    assert any("m0 … m2 (2) (33333333)" in line for line in profile_lines(book, ("m0", "m2")))
    assert not any(line.startswith("not shown") for line in profile_lines(book))


def test_starts_are_counted_as_starts(book):
    book.put_reached("k", 0.5)
    assert next(profile_lines(book)).endswith("since the last start reached 0.50,")
    book.put_reached("k", 0.9)
    assert (
        next(profile_lines(book))
        == "k: plans count on 0.70 of these rows/s, since the last 2 starts reached 0.50–0.90,"
    )


def test_the_list_goes_by_the_configuration_that_there_is(book, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCENS_CACHE", str(tmp_path))
    monkeypatch.delenv("HPCENS_CONFIG", raising=False)
    for name in ("m0", "m1"):
        book.put(replace(KEY, member=name * 8), replace(PROFILE, name=name))
    shown = {}
    for options in ((), ("-c", "m.yaml"), ("-c", "m.yaml", "--all")):
        (tmp_path / "m.yaml").write_text(
            "members: [{name: m1, torchscript: m.pt}]\noutput: {datasets: [prediction]}\ntask: multiclass\n"
        )
        assert main(["profile", "--list", *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        shown[options] = [line.split()[0] for line in lines if line.startswith("  m")]
    assert [*shown.values()] == [["m0", "m1"], ["m1"], ["m0", "m1"]]
    assert main(["profile", "--all"]) == 2

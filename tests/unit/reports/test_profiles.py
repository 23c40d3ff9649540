"""Profiles as a person judges them: whose they are, when they were taken, and how far they are to be trusted."""

import time
from dataclasses import replace

import pytest

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
    book.put(KEY, replace(PROFILE, **changes))
    return next(profile_lines(book))


def batch(**figures):
    return {4: replace(PROFILE.batches[4], **figures)}


def test_a_profile_says_whose_it_is_and_when_it_was_taken(book):
    assert listed(book) == (
        "m0 (01234567)  cpu×1 model  eager  04 Mar 2026 15:06  torch 2.13  1.0 MiB: 4 → 33,300/s ± 2 %"
    )
    assert "member (01234567)" in (line := listed(book, name="", measured=0.0)) and "date not known" in line


@pytest.mark.parametrize(
    ("figures", "end"),
    [
        ({"passes": 1, "spread": 0.0}, "33,300/s (one pass)"),
        ({"passes": 0, "spread": 0.0}, "33,300/s"),
        ({"passes": 0, "spread": 0.3}, "33,300/s ± 15 %"),
        ({"passes": 5, "spread": 0.0}, "33,300/s ± under 1 %"),
        ({"passes": 5, "spread": 0.019}, "33,300/s ± under 1 %"),
    ],
)
def test_figures_never_seem_more_exact_than_they_are(book, figures, end):
    line = listed(book, batches=batch(**figures))
    assert line.endswith(end) and "± 0 %" not in line


def test_what_was_taken_on_a_loaded_machine_is_marked(book):
    assert "15:06 *  torch" in listed(book, batches=batch(core_share=0.4))
    assert list(profile_lines(book))[-1].startswith("(*: the machine did other work meanwhile")
    assert " *" not in listed(book)
    assert not any("other work" in line for line in profile_lines(book))


def test_runtimes_that_do_not_pay_yet_are_one_line_without_the_rows_of_a_run(book):
    book.put(KEY, PROFILE)
    refused = "preparing it would not pay for 22 rows"
    for runtime, rows in (("frozen", 26_783), ("openvino", 3_270_325)):
        later = replace(PROFILE, batches={}, refused=refused, worth_from=rows, name="")
        book.put(replace(KEY, runtime=runtime), later)
    first, second, *_ = profile_lines(book)
    assert "eager" in first and second == (
        "m0 (01234567)  cpu×1 model  not tried yet, since preparing it pays only for more rows:"
        " frozen from 26,800 rows on, openvino from 3,270,000 rows on"
    )

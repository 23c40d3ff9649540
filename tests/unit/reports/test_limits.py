"""What limited the devices, in figures by hand: how busy each was, what it waited for, what would feed it better."""

from dataclasses import replace

import pytest
from support.instances import MIB, given_problem, on
from support.placements import planned

from hpcens.reports.ending import ending_lines
from hpcens.reports.limits import device_lines, limit_sentence, more_readers
from hpcens.runs import RankReport
from hpcens.vocabulary import IoRates

PLAN = replace(
    planned(given_problem({("gpu", "m"): {8: 100.0}}, devices=on(*["gpu"] * 4, memory=1000 * MIB), weights=10 * MIB)),
    rates=IoRates(reading=100.0, reading_together=160.0, readers_together=3),
)
WAIT, HAND = "wait for input", "wait to hand over"


def rank(role, peak=0, **spent):
    names = {"computed": "Predict", "read": "Read", "wrote": "Write", "waited": WAIT, "handed": HAND}
    return RankReport(role, {names[name]: seconds for name, seconds in spent.items()}, 0.0, 1.0, 1 << 20, peak)


def ranks(*busy, reader=None, reducer=None):
    devices = [rank(f"device h/cuda{i}", computed=part, waited=1 - part) for i, part in enumerate(busy)]
    return [
        rank("reader", **reader or {"read": 0.1, "waited": 0.9}),
        rank("reducer", **reducer or {"wrote": 0.1, "waited": 0.9}),
        *devices,
        rank("parked"),
    ]


READS = {"read": 0.97, "waited": 0.03}
SENTENCES = [
    (ranks(0.97, 0.95), "the devices, which computed 96 % of the time; more or faster devices would help"),
    (ranks(0.7, 0.7), "the devices, which computed 70 % of the time; "),
    (
        ranks(0.46, 0.46, reader=READS),
        "reading the dataset, which took 97 % of the time and fed the devices to 46 %; 4 readers more, each on a node"
        " of its own, would give 100 %",
    ),
    (
        ranks(0.46, reader={"handed": 0.8, "read": 0.15, "waited": 0.05}),
        "sending rows to the devices, for which the reader waited 80 % of the time: it fed the devices to 46 %; ",
    ),
    (
        ranks(0.3, 0.3, reducer={"wrote": 0.95, "waited": 0.05}),
        "combining and writing the result, which took 95 % of the time and fed the devices to 30 %; fewer or",
    ),
    (ranks(0.98, 0.3, 0.3), "h/cuda0, which computed 98 % of the time, all devices 53 % of the time on average; more"),
    (ranks(0.3, 0.3), "none; the devices computed 30 % of the time, and nothing else was busy for longer than 10 %"),
    (ranks(0.9, 0.0), "the devices, which computed 90 % of the time; "),  # what hosts nothing is no device to feed
]


@pytest.mark.parametrize(("of", "expected"), SENTENCES)
def test_one_sentence_says_what_limits(of, expected):
    assert limit_sentence(PLAN, of).startswith(f"bottleneck: {expected}")


def test_nothing_is_said_where_no_device_computed():
    assert limit_sentence(PLAN, []) == limit_sentence(PLAN, ranks(0.0)) == ""


@pytest.mark.parametrize(
    ("rates", "readers", "fed", "most", "said"),
    [
        (IoRates(), 1, 0.4, 1.0, ""),
        (IoRates(reading=100.0), 1, 0.46, 1.0, "one reader more, each on a node of its own, would give 92 %"),
        (IoRates(reading=100.0), 1, 0.46, 0.8, "one reader more, each on a node of its own, would give 80 %"),
        # two give 1.38 of one, three 1.76
        (
            IoRates(reading=100.0, reading_together=176.0, readers_together=3),
            1,
            0.46,
            0.8,
            "2 readers more, each on a node of its own, would give 80 %",
        ),
        (
            IoRates(reading=100.0, reading_together=101.0, readers_together=3),
            2,
            0.4,
            1.0,
            "further readers would not help: together they read no more",
        ),
    ],
)
def test_further_readers_are_told_of_by_the_rates_measured(rates, readers, fed, most, said):
    assert more_readers(rates, readers, fed, most) == said


def test_each_device_has_its_shares_and_memory_and_equal_ones_a_line():
    devices = [
        rank(f"device h/cuda{i}", peak=(200 + i) * MIB, computed=part, waited=0.99 - part, handed=0.01)
        for i, part in enumerate((0.9, 0.92, 0.4, 0.91))
    ]
    [line] = device_lines(PLAN, devices)
    assert line == (
        "h/cuda0 … h/cuda3 (4): computed 40–92 %, waited for rows 7–59 %, to hand over 1 %; memory"
        " 200.0 MiB–203.0 MiB used at most, 10.0 MiB planned of 1,000.0 MiB; least busy: h/cuda2"
    )
    [one] = device_lines(PLAN, [rank("device h/cuda1", computed=0.5, waited=0.5), rank("device h/cuda9", computed=1.0)])
    assert one == (
        "h/cuda1: computed 50 %, waited for rows 50 %, to hand over 0 %; memory 10.0 MiB planned of 1,000.0 MiB"
    )


def test_the_end_of_a_run_says_so(tmp_path, monkeypatch):
    from support.results import begin, directory

    from hpcens.runs import Report, Verdict

    run = directory(tmp_path)
    epoch = begin(run)
    epoch.keep_plan(PLAN)
    of = ranks(0.46, 0.46, reader=READS)
    report = Report(
        rows=10,
        seconds=1.0,
        rows_per_second=10.0,
        predicted_rows_per_second=11.0,
        instances=(),
        bottleneck="reader: busy 97 % of the time",
        syncing_share=0.0,
        idle=(),
        ranks=tuple(of),
        masked=(),
    )
    report.save(epoch.report)
    assert Report.load(epoch.report) == report
    epoch.judge(Verdict(75, "drained"))
    lines = list(ending_lines(run, tmp_path / "out.h5", verbose=True))
    assert limit_sentence(PLAN, of) in lines
    assert any(line.startswith("  h/cuda0: computed 46 %") for line in lines)

"""Readers and reducers: as few as pass the rows, and what limits where they cannot."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.instances import ROW, given_problem, on, problem
from support.placements import check, planned

from hpcens.vocabulary import IoRates


def test_the_window_follows_the_devices_but_not_beyond_the_segments():
    rows = {("k", "a"): {8: 1e6}}
    of = given_problem(rows, devices=on(*"kkkk"))
    assert (planned(of, sizes=(8,)).window, planned(of, sizes=(8,)).read_ahead) == (24, 12)
    assert (planned(of, sizes=(8,), rows=9).window, planned(of, sizes=(8,), rows=9).read_ahead) == (2, 2)


def test_reading_limits():
    of = replace(problem(1), rates=IoRates(reading=7.0))
    made = planned(of)
    check(of, made)
    assert made.bound == made.throughput == 7.0 and "reading" in made.limit


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(1.0, 1e4), st.floats(1.0, 1e4), st.floats(1.0, 1e4), st.integers(1, 8))
@example(seed=1, reading=1e4, sending=1.0, writing=1e4, most=2)  # one that passes fewer than the devices make
def test_readers_and_reducers_are_as_few_as_pass_the_rows(seed, reading, sending, writing, most):
    rates = IoRates(reading=reading, link=sending * ROW["row_bytes"], disk=writing * ROW["output_bytes"])
    of = replace(problem(seed, devices=6), rates=rates, readers=most, reducers=most)
    made = planned(of)
    check(of, made)
    sent = sum(len(h.devices) * max(h.shares.values()) for h in made.hostings) / made.throughput

    def passed(readers, reducers):
        return min(readers * reading, readers * sending / max(1.0, sent), reducers * writing) * (1 + 1e-6)

    assert 1 <= made.readers <= most and 1 <= made.reducers <= most
    assert made.throughput <= passed(made.readers, made.reducers)
    possible = planned(replace(of, rates=IoRates())).throughput
    assert made.throughput == pytest.approx(min(possible, passed(made.readers, made.reducers)), rel=1e-5)
    for fewer in ((made.readers - 1, made.reducers), (made.readers, made.reducers - 1)):
        assert 0 in fewer or passed(*fewer) < min(possible, passed(most, most)) * (1 + 1e-5)
    if made.throughput < possible * (1 - 1e-6):
        assert made.limit.split(":")[0] in ("reading", "sending", "writing")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(1.0, 1e3), st.floats(1.0, 8.0), st.integers(2, 8))
@example(seed=1, reading=1.0, times=2.0, most=8)  # one that passes fewer than the devices make
def test_readers_that_share_a_disk_do_not_read_as_many_times_one(seed, reading, times, most):
    together = min(times, most) * reading
    rates = IoRates(reading=reading, reading_together=together, readers_together=most)
    of = replace(problem(seed, devices=6), rates=rates, readers=most)
    made = planned(of)
    check(of, made)
    assert made.throughput <= rates.read_by(made.readers) * (1 + 1e-9) <= together * (1 + 2e-9)
    possible = planned(replace(of, rates=IoRates())).throughput
    assert made.throughput == pytest.approx(min(possible, together), rel=1e-6)
    if made.throughput < possible * (1 - 1e-6):
        gigabytes = f"{together * 10_000 / 1e9:.3g}"
        assert made.limit.startswith(f"reading: {gigabytes} GB/s is the most that {made.readers} readers read")
    assert made.readers == 1 or rates.read_by(made.readers - 1) < made.throughput * (1 + 1e-6)


def test_where_sending_is_dear_each_row_goes_to_one_device():
    """Loading takes too long to replicate for nothing; with a slow link it pays."""
    rows = {("k", m): {8: 100.0} for m in "abcd"}
    of = given_problem(rows, devices=on(*"kkkk"), load_seconds=60.0)

    def sending(rows, **more):
        return replace(of, rates=IoRates(link=rows * ROW["row_bytes"]), **more)

    wrapped, whole = planned(of, sizes=(8,)), planned(sending(120.0), sizes=(8,))
    assert len(wrapped.instances) == 4 and len(whole.instances) == 16
    assert whole.throughput == wrapped.throughput == 100.0 and whole.readers == 1
    assert planned(sending(80.0, readers=3), sizes=(8,)).readers == 2
    slow = planned(sending(80.0), sizes=(8,))
    assert slow.throughput == 80.0 and slow.limit == "sending: 0.0008 GB/s is the most that one reader sends"


def at(hosts, **more):
    """Devices of these hosts, which make 100 rows/s each of a member; links of so many rows/s."""
    rows = {("k", "a"): {8: 100.0}}
    devices = tuple(replace(d, host=host) for d, host in zip(on(*"k" * len(hosts)), hosts, strict=True))
    return replace(given_problem(rows, devices=devices), shared=True, **more)


def link(rows):
    return IoRates(link=rows * ROW["row_bytes"])


def test_no_link_is_priced_within_a_host():
    """Story: devices that read rows where their reader had put them were planned at what a copy of them takes."""
    made = planned(at("hhh", rates=link(10.0)), sizes=(8,))
    assert made.throughput == made.bound == 300.0 and made.copied == 0.0 and made.readers == 1
    apart = planned(replace(at("hhh", rates=link(10.0)), shared=False), sizes=(8,))
    assert apart.throughput == 10.0 and "sending" in apart.limit and apart.copied is None
    unknown = planned(replace(at(("", "", "")), rates=link(10.0)), sizes=(8,))
    assert unknown.throughput == 10.0 and unknown.copied == pytest.approx(1.0), "it may be another"


@pytest.mark.parametrize(
    ("hosts", "rows", "most", "throughput", "bound", "readers", "copied"),
    [
        ("gh", 1e9, 1, 200.0, 200.0, 1, 0.5),
        ("gh", 100.0, 1, 200.0, 200.0, 1, 0.5),  # half of the rows are sent
        ("gh", 50.0, 1, 100.0, 150.0, 1, 0.5),
        ("gggh", 50.0, 1, 200.0, 350.0, 1, 0.25),
        ("gh", 50.0, 2, 200.0, 200.0, 2, 0.5),  # each sends the half of its rows to the other
        ("ghij", 50.0, 2, 400 / 6 * 2, 300.0, 2, 0.75),
        ("ghij", 50.0, 4, 800 / 3, 400.0, 4, 0.75),
    ],
)
def test_what_is_sent_goes_to_other_hosts_alone(hosts, rows, most, throughput, bound, readers, copied):
    of = at(hosts, rates=link(rows), readers=most)
    made = planned(of, sizes=(8,))
    check(of, made)
    found = made.throughput, made.bound, made.readers, made.copied
    assert found == pytest.approx((throughput, bound, readers, copied))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from("ghi"), min_size=1, max_size=5), st.floats(1.0, 2e3), st.data())
def test_no_division_of_rows_beats_the_bound(seed, hosts, rows, data):
    """Whoever reads and whoever scores what: each reader keeps as many rows as its host makes, and sends the others."""
    of = problem(seed, devices=len(hosts), members=2, memory=1 << 50)
    devices = tuple(replace(d, host=host) for d, host in zip(of.devices, hosts, strict=True))
    most = len({*hosts})
    of = replace(of, devices=devices, shared=True, rates=link(rows), readers=most)
    made = planned(of)
    check(of, made)
    whole = planned(replace(of, rates=IoRates())).throughput
    reading = data.draw(st.lists(st.sampled_from(sorted({*hosts})), min_size=1, max_size=most, unique=True))
    own = whole * sum(host in reading for host in hosts) / len(hosts)  # equal devices
    assert min(whole, own + len(reading) * rows) <= made.bound * (1 + 1e-6)
    sent = made.copied * made.throughput
    assert sent <= made.readers * rows * (1 + 1e-6), "no link passes more than it can"

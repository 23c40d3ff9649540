"""What is answered before any device hour is spent: which nodes, by which planner, how busy, at what precision."""

import json
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.instances import drawn
from unit.allocation.test_planners import given_problem, on, planned, problem

from hpcens.checks.preflight import check
from hpcens.cli import main
from hpcens.config import load
from hpcens.errors import UsageError
from hpcens.planning.capacity import Capacity, PlanRequest
from hpcens.planning.inventory import inventory
from hpcens.planning.io_rates import known_link
from hpcens.planning.nodes import Nodes, allocations, asking_for, knee, named, smallest, smallest_of_a_kind, spell
from hpcens.planning.simulation import simulate
from hpcens.profiling.bench import precise
from hpcens.profiling.book import ProfileBook
from hpcens.reports.html import draw
from hpcens.reports.plans import answer_lines, deadline_line, expectation_lines, plan_lines, simulation_lines
from hpcens.scheduler.nodes import NodeGroup, parse_nodes
from hpcens.specs import CpuSpec, DevicesSpec, Job, SlurmSpec
from hpcens.vocabulary import BatchProfile, Device, IoRates, Link, LinkKey, Plan, Profile, ProfileKey

FREE = IoRates(message_seconds=0.0, link=1e18, disk=1e18, sync_seconds=0.0)


def simulated(plan, **rates):
    """A simulation in which nothing but predicting takes time, and what has these rates."""
    return simulate(replace(plan, rates=replace(FREE, **rates)))


def nodes(name, count, kind, devices, memory=1000):
    return Nodes(name, count, tuple(Device(f"cuda{i}", "cuda", kind, memory, 1, i) for i in range(devices)))


def planner_for(rows, rows_to_score=10**6, **more):
    def made(devices):
        return planned(given_problem(rows, devices=tuple(devices), **more), sizes=(8,), rows=rows_to_score)

    return made


def test_an_allocation_takes_the_fastest_nodes_first():
    rows = {("slow", "a"): {8: 10.0}, ("quick", "a"): {8: 100.0}}
    kinds = [nodes("old", 4, "slow", 4), nodes("new", 2, "quick", 2)]
    found = allocations(kinds, [1, 2, 3, 6], planner_for(rows))
    assert [of.taken for of in found] == [(("new", n),) for n in (1, 2)] + [(("new", 2), ("old", n)) for n in (1, 4)]
    assert [of.plan.throughput for of in found] == pytest.approx([200, 400, 440, 560])
    assert len({device.name for device in found[-1].plan.devices}) == 20
    assert found[0].efficiency == found[1].efficiency == 1 and found[-1].efficiency == pytest.approx(560 / 20 / 100)


@settings(max_examples=20, deadline=None)
@given(st.floats(100.0, 1e6))
def test_a_deadline_is_met_by_as_few_nodes_as_can(deadline):
    kinds = [nodes("n", 64, "k", 2)]
    plans = planner_for({("k", "a"): {8: 50.0}, ("k", "b"): {8: 80.0}}, load_seconds=3.0)
    alone = [plans(named(kinds[0], n)).seconds for n in (1, 64)]
    if alone[1] > deadline:
        with pytest.raises(UsageError, match=r"all 64 nodes need .*, limited by member"):
            smallest(kinds, deadline, plans)
        return
    chosen = smallest(kinds, deadline, plans)
    assert chosen.plan.seconds <= deadline
    assert chosen.nodes == 1 or plans(named(kinds[0], chosen.nodes - 1)).seconds > deadline


def test_what_too_few_nodes_hold_at_once_is_planned_there_in_phases():
    rows = {("k", m): {8: 10.0} for m in "abc"}
    found = allocations([nodes("n", 8, "k", 1)], range(1, 7), planner_for(rows, weights=900))
    assert [len(of.plan.phases) for of in found] == [3, 2, 0, 0, 0, 0]
    assert [of.plan.throughput for of in found] == pytest.approx([10 / 3, 20 / 3, 10, 10, 10, 20])
    with pytest.raises(UsageError, match=r"on 2 nodes: member a fits no device: in batches of 8 it needs 100 bytes"):
        allocations([nodes("n", 8, "k", 1)], [1, 2], planner_for(rows, weights=1100))
    with pytest.raises(UsageError, match="9 nodes are asked for, there are 8"):
        allocations([nodes("n", 8, "k", 1)], [9], planner_for(rows))


SINFO = """\
gpu|2|mix|64|515000|gpu:a100:4(S:0-1)
gpu|14|idle|64|515000|gpu:a100:4(S:0-1)
gpu|1|down*|64|515000|gpu:a100:4(S:0-1)
gpu|3|alloc|48|257000+|gpu:nvidia_a100_1g.10gb:7(S:0),gpu:t4:1(S:1)
cpu|40|idle~|128|1031000|(null)
cpu|2|drain|128|1031000|(null)
"""


def test_nodes_that_can_be_used_are_read_from_sinfo():
    assert parse_nodes(SINFO) == (
        NodeGroup("gpu", 16, 64, 515000 << 20, (("a100", 4),)),
        NodeGroup("gpu", 3, 48, 257000 << 20, (("nvidia_a100_1g.10gb", 7), ("t4", 1))),
        NodeGroup("cpu", 40, 128, 1031000 << 20),
    )
    assert parse_nodes("") == () and parse_nodes("p|1|idle|8|1000|gpu:2")[0].gpus == (("", 2),)


def test_the_inventory_names_devices_as_profiles_do():
    groups = parse_nodes(SINFO)
    a100 = Device("login/cuda0", "cuda", "cuda NVIDIA A100-SXM4-40GB", 42 << 30, host="login")
    profiled = ["cpu×2 a", "cuda NVIDIA A100-SXM4-80GB MIG 1g.10gb", "cuda Tesla T4 16GB"]
    found = inventory(groups, DevicesSpec(), [a100], profiled)
    assert [(of.name, of.count, of.partition, len(of.devices)) for of in found] == [
        ("gpu", 16, "gpu", 4),
        ("gpu-2", 3, "gpu", 8),
    ]
    assert {d.kind for d in found[0].devices} == {a100.kind} and found[0].devices[0].memory == 42 << 30
    assert [(d.kind, d.memory) for d in found[1].devices[6:]] == [
        ("cuda nvidia_a100_1g.10gb", 9_500_000_000),
        ("cuda Tesla T4 16GB", 15_200_000_000),
    ]
    with pytest.raises(UsageError, match="Slurm has GPUs t4, and nothing says how much memory they have"):
        inventory(groups, DevicesSpec(), [a100], [])
    cpu = Device("h/cpu0", "cpu", "cpu×1 x", 1 << 40, host="h")
    cpus = inventory(groups, DevicesSpec(cpu=CpuSpec(count=4)), [cpu], [])
    assert [(of.name, len(of.devices)) for of in cpus] == [("gpu", 4), ("gpu-2", 4), ("cpu", 4)]
    assert cpus[2].devices[0].memory == int(0.9 * (1031000 << 20)) // 4


def test_one_kind_of_node_is_chosen_for_a_deadline():
    rows = {("slow", "a"): {8: 10.0}, ("quick", "a"): {8: 100.0}}
    kinds = [nodes("old", 40, "slow", 4), nodes("new", 2, "quick", 2)]
    plans = planner_for(rows)
    assert smallest_of_a_kind(kinds, 1e6 / 400, plans)[1].taken == (("new", 2),)
    assert smallest_of_a_kind(kinds, 1e6 / 800, plans)[1].taken == (("old", 20),)
    with pytest.raises(UsageError, match=r"no kind of node alone meets .*; new: no allocation meets a deadline"):
        smallest_of_a_kind(kinds, 1.0, plans)


def test_the_knee_is_where_reading_begins_to_limit():
    plans = planner_for({("k", "a"): {8: 100.0}}, rates=IoRates(reading=400.0))
    found = allocations([nodes("n", 16, "k", 1)], range(1, 17), plans)
    assert knee(found).nodes == 4 and found[-1].plan.limit == "reading: 0.004 of 0.004 GB/s"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (59.0, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_times_are_spelled(seconds, words):
    assert spell(seconds) == words


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 5), st.integers(1, 3))
def test_a_simulation_without_costs_comes_near_the_plan_and_never_beyond(seed, devices, members, kinds):
    of = problem(seed, devices=devices, members=members, kinds=kinds)
    plan = planned(of, rows=10**5)
    plan = replace(plan, rows=400 * plan.numerics.segment_rows)
    found = simulated(plan)
    # a device may have two segments when the others are done, and one more than its share of them
    segment = max(sum(plan.numerics.segment_rows / speed for speed in of.speeds.values()) for of in plan.hostings)
    seconds = plan.rows / plan.throughput
    assert seconds * (1 - 1e-9) <= found.seconds <= seconds + 3 * segment
    assert all(busy <= found.seconds * (1 + 1e-9) for busy in found.devices.values())


@pytest.mark.parametrize("segments", [3, 10, 21, 40])
def test_the_last_segments_go_to_whoever_finishes_them_first(segments):
    """A device ten times as slow takes as long for one segment as the other for ten, and may have two at once."""
    plan = planner_for({("quick", "a"): {8: 100.0}, ("slow", "a"): {8: 10.0}})(on("quick", "slow"))
    rows = plan.numerics.segment_rows
    found = simulated(replace(plan, rows=segments * rows))
    assert found.seconds <= segments * rows / plan.throughput + 3 * rows / 100.0
    assert found.seconds <= segments * rows / 100.0 * (1 + 1e-9), "no later than without the slow one"


def test_a_simulation_shows_who_is_too_slow():
    plan = planned(problem(2, devices=4, members=2), rows=10**5)
    plan = replace(plan, rows=200 * plan.numerics.segment_rows)
    starved = simulated(plan, reading=plan.throughput / 4)
    assert starved.reading == pytest.approx(starved.seconds, rel=0.05)
    assert max(starved.devices.values()) < 0.5 * starved.seconds
    narrow = simulated(plan, link=plan.throughput * plan.row_bytes / 4)
    assert narrow.sending == pytest.approx(narrow.seconds, rel=0.05)
    assert narrow.rows_per_second < 0.3 * plan.throughput


def test_a_simulation_has_as_many_readers_and_reducers_as_the_plan():
    """Two pass what one passes in twice the time, and devices that none can feed are as fast as those."""
    plan = planned(problem(2, devices=4, members=2), rows=10**5)
    plan = replace(plan, rows=200 * plan.numerics.segment_rows, window=64, read_ahead=32)
    disk = plan.throughput * plan.output_bytes / 4
    for name, slow in (("reading", {"reading": plan.throughput / 4}), ("writing", {"disk": disk})):
        one, two = simulated(plan, **slow), simulated(replace(plan, readers=2, reducers=2), **slow)
        assert getattr(one, name) == pytest.approx(getattr(two, name)), "the work is the same"
        assert two.rows_per_second == pytest.approx(2 * one.rows_per_second, rel=0.1)


def test_a_simulation_takes_what_was_measured_for_the_plan():
    plan = planned(problem(2, devices=4, members=2), rows=10**5)
    plan = replace(plan, rows=200 * plan.numerics.segment_rows)
    narrow = simulate(replace(plan, rates=replace(FREE, link=plan.throughput * plan.row_bytes / 4)))
    assert narrow.sending == pytest.approx(narrow.seconds, rel=0.05)
    late, soon = (simulated(plan, message_seconds=seconds).seconds for seconds in (1.0, 0.0))
    assert late > soon + 3.0, "a segment is sent, answered and told of, and its device says goodbye"
    two, reading = replace(plan, readers=2), plan.throughput / 2
    both = (
        simulated(two, reading=reading, reading_together=reading, readers_together=2),
        simulated(two, reading=reading),
    )
    assert both[0].seconds == pytest.approx(2 * both[1].seconds, rel=0.1), (
        "two that share a disk read no faster than one"
    )


def test_phases_are_simulated_one_after_another():
    rows = {("k", m): {8: s} for m, s in (("a", 10.0), ("b", 20.0), ("c", 40.0))}
    plan = planner_for(rows, rows_to_score=10**4, weights=900)(on("k"))
    assert len(plan.phases) == 3
    found = simulated(plan)
    assert found.seconds == pytest.approx(plan.rows / plan.throughput, rel=1e-6)
    assert found.devices == {"h/cuda0": pytest.approx(found.seconds)}
    assert "h/cuda0: busy 100–100 %" in "\n".join(simulation_lines(plan, found))


def test_a_book_keeps_links_until_it_forgets(tmp_path):
    book, near, far = ProfileBook(tmp_path), LinkKey("k", apart=False), LinkKey("k", apart=True)
    assert book.link(near) is None
    book.put_link(near, Link(2e9, 1e-5))
    book.put_link(near, Link(1e9, 2e-5))
    assert book.link(near) == Link(1e9, 2e-5) and book.link(far) is None
    assert list(book.links()) == [(near, Link(1e9, 2e-5))] and list(book.all()) == []
    here = [Device("n/cuda0", "cuda", "k", 1, host="n"), Device("n/cuda1", "cuda", "other", 1, host="n")]
    assert known_link(here[:1], book) == Link(1e9, 2e-5)
    assert known_link(here, book) is None, "one of the kinds was never measured"
    assert known_link([here[0], here[0].on("m")], book) is None, "nor was another node"
    book.clear()
    assert book.link(near) is None


def test_a_simulation_of_many_devices_looks_at_none_but_those_concerned():
    """Deliveries grow with segments, not with devices: a count, since time is the machine's affair."""
    counts = []
    for devices in (50, 200):
        plan = planned(problem(1, devices=devices, members=2), rows=10**9)
        plan = replace(plan, rows=1000 * plan.numerics.segment_rows)
        counts.append(simulate(plan).deliveries - 5 * devices)
    assert counts[0] == pytest.approx(counts[1], rel=0.25)


def test_ten_thousand_equal_devices_are_a_line_of_the_plan():
    made = planned(problem(0, devices=10_000, members=64, kinds=4), rows=10**9)
    assert made.gap <= 1e-6 and len(made.hostings) <= 4 * 65
    assert len(made.to_json()) < 200 * 10_000
    lines = list(plan_lines(made))
    assert len(lines) < 300 and "h/0 … h/9996 (2500)" in "\n".join(lines)
    assert Plan.from_json(made.to_json()) == made


def test_a_drawing_needs_nothing_else_and_shows_every_member_and_device():
    made = planned(problem(4, devices=3, members=4))
    made = replace(made, devices=tuple(replace(d, kind="<kind>") for d in made.devices), limit="<limit> & more")
    page = draw(made)
    assert not re.search(r"(?:src|href|url|@import)\s*[=(:]", page) and "<kind>" not in page
    assert "&lt;limit&gt; &amp; more" in page and all(f"<th>{member}</th>" in page for member in made.members)


def test_shading_changes_no_figure():
    made = planned(problem(4, devices=3, members=4))
    plain, shaded = "\n".join(plan_lines(made)), "\n".join(plan_lines(made, shaded=True))
    assert "\x1b" in shaded and "\x1b" not in plain
    assert re.sub("\x1b\\[[0-9;]*m", "", shaded) == plain


def test_random_instances_have_small_gaps():
    """A small part of the drill: loose memory to 1 %, tight memory to 5 % in most."""
    loose = [planned(replace(drawn(seed, tight=False), seconds=2.0), rows=10**7).gap for seed in range(12)]
    assert max(loose) <= 0.01
    tight = [planned(replace(drawn(seed, tight=True), seconds=2.0), rows=10**7).gap for seed in (0, 2, 3, 7, 14, 16)]
    assert max(tight) <= 0.05


def test_measuring_goes_on_until_the_median_is_precise():
    draw_ = random.Random(0)
    assert precise([100.0] * 5) and not precise([100.0] * 4)
    assert not precise([80.0, 100.0, 120.0, 90.0, 110.0])
    assert precise([draw_.uniform(90, 110) for _ in range(200)])


def test_a_book_lists_what_it_holds_and_forgets_it(tmp_path):
    book = ProfileBook(tmp_path / "book")
    keys = [ProfileKey("k", member, "eager", "row", "2.0") for member in ("b", "a")]
    for key in keys:
        book.put(key, Profile(1, 2, 0.1, (3,), {8: BatchProfile(8, 100.0, 5, 0.0)}, (8,)))
    (tmp_path / "book" / "damaged.json").write_text("{")
    assert [key.member for key, _ in book.all()] == ["a", "b"]
    assert book.clear() == 3 and list(book.all()) == [] and not book.covers(keys[0], [8], rows=1, tolerance=1)


@pytest.mark.mpi
def test_the_verbs_of_planning(project, monkeypatch, capsys):
    project.hpcens("plan", "dataset.h5", "-o", "plan.json", "--html", "plan.html")
    plan = json.loads((project.folder / "plan.json").read_text())
    assert plan["rows"] == 300 and (project.folder / "plan.html").read_text().startswith("<!doctype html>")
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HPCENS_CACHE", project.environment["HPCENS_CACHE"])

    def told(*arguments, code=0):
        assert main(arguments) == code
        out = capsys.readouterr()
        return (out.out + out.err).splitlines()

    spec = load(project.folder / "hpcens.yaml")
    job = Job(datasets=(project.dataset,), output=project.output, spec=spec)
    desk = Capacity(job, check(job))
    assert desk.missing() == 0
    compared = list(answer_lines(desk.answer(PlanRequest(compare=True)), None))
    assert [line.split()[0] for line in compared[1:4]] == ["optimal", "greedy", "worst-fit"]
    chosen = next(answer_lines(desk.answer(PlanRequest(deadline=3600.0)), 3600.0))
    assert chosen.startswith("fewest nodes that finish within 1 h 00 min: 1 node (")
    expected = list(expectation_lines(desk.expected(2)))
    assert expected[0] == "expected, from kept profiles, on 2 nodes like this host:"
    assert any("node-2/cpu1" in line for line in expected)
    here = replace(desk._here[0], name="n/cpu0", host="n")
    monkeypatch.setattr("hpcens.planning.capacity.Capacity._described", lambda self: [Nodes("n", 3, (here,))])
    nodes, allocation = desk.fewest(3600.0, "p")
    settings = asking_for(SlurmSpec(partition="p"), nodes, allocation.nodes)
    assert (settings.nodes, settings.gpus_per_node, settings.partition) == (1, None, "p")
    assert deadline_line(3600.0, allocation).startswith("fewest nodes that finish within 1 h 00 min: 1 n (")
    monkeypatch.undo()
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HPCENS_CACHE", project.environment["HPCENS_CACHE"])
    curve = told("plan", "dataset.h5", "--nodes", "1..3")
    assert [line.split()[0] for line in curve[1:]] == ["1", "2", "3"]
    assert "no allocation meets a deadline" in told("plan", "dataset.h5", "--deadline", "0.000001s", code=2)[0]
    assert json.loads("".join(told("simulate", "plan.json", "--rows", "5000", "--json")))["rows"] == 5000
    assert len(told("profile", "--list")) >= 3
    assert "no dataset is given" in told("profile", code=2)[0]
    project.yaml("cluster: {gpu: {nodes: 2, kind: none such, devices: 2, memory: 8GiB}}")
    strange = replace(spec, cluster=load(project.folder / "hpcens.yaml").cluster)
    elsewhere = replace(job, spec=strange)
    (unknown,) = expectation_lines(Capacity(elsewhere, check(elsewhere)).expected(2))
    assert unknown.startswith("no plan yet: on 2 nodes: there is no profile of member linear on none such;")
    refused = told("plan", "dataset.h5", "--nodes", "2", code=2)
    assert "there is no profile of member linear on none such" in refused[0]

"""What ranks did so far is left in files while they run, and status shows it."""

from dataclasses import replace

import pytest
from support.instances import MIB, given_problem, on
from support.placements import planned
from support.results import begin, directory

from hpcens.cli import main
from hpcens.processes import node
from hpcens.runs import RankReport, sign
from hpcens.runs.loads import read_loads, write_load
from hpcens.scoring.heartbeat import Heartbeat


@pytest.fixture
def run(tmp_path):
    run = directory(tmp_path)
    begin(run).ranks.mkdir()
    return run


@pytest.fixture
def epoch(run):
    return run.newest


def load(role, task="Predict", busy=0.5, peak=0):
    return RankReport(role, {task: busy, "wait for input": 1 - busy}, 0.0, 1.0, 1 << 20, peak)


def test_the_ranks_of_each_node_have_a_file_with_places_of_their_own(epoch):
    assert read_loads(epoch) == []
    first, last, other = load("reader", "Read"), load(f"device {'h' * 64}/cuda0", peak=1 << 40), load("reducer")
    write_load(epoch, "n0", 2, last)
    write_load(epoch, "n0", 0, load("starting"))
    write_load(epoch, "n0", 0, first)
    write_load(epoch, "n1", 0, other)
    assert read_loads(epoch) == [first, last, other]
    write_load(epoch, "n1", 0, load("x" * 1100))
    assert read_loads(epoch) == [first, last, other], "what does not fit is left out"
    epoch.loads_of("n0").write_bytes(epoch.loads_of("n0").read_bytes()[:1300])
    assert read_loads(epoch) == [first, other], "and what is not whole"


def test_a_rank_leaves_word_with_its_signs_of_life(epoch):
    for rank in (3, 7):
        sign(epoch, rank, "starting")
    did = load("device n/cpu0", busy=0.25)
    heart = Heartbeat(epoch, node(), lambda line: None)
    heart.tell_load(7, lambda: did if beat > 5 else None)
    for beat in range(1, 13):
        heart.beat()
        assert read_loads(epoch) == [did] * (beat >= 10), "nothing before it has done something"
    assert epoch.loads_of(node()).stat().st_size == 2 * 1024, "the second rank of its node"


def test_status_shows_it_while_the_run_goes_on(run, epoch, capsys):
    sign(epoch, 0, "reader")  # this process, which lives
    problem = given_problem({("gpu", "m"): {8: 100.0}}, devices=on("gpu", "gpu", "gpu", memory=1000 * MIB))
    epoch.keep_plan(planned(replace(problem, held=MIB)))
    write_load(epoch, "n0", 0, load("reader", "Read", 0.95))
    assert main(["status", str(run.path)]) == 0
    assert "computed" not in capsys.readouterr().out
    for place in range(3):
        write_load(epoch, "n0", 1 + place, load(f"device h/cuda{place}", busy=0.46))
    assert main(["status", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("running: ")
    assert "h/cuda0 … h/cuda2 (3): computed 46 %, waited for rows 54 %, to hand over 0 %; memory 1.0 MiB planned" in out
    assert "reading the dataset, which took 95 % of the time and fed the devices to 46 %" in out

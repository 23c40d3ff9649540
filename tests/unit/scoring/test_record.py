"""What rank 0 keeps of a start: devices that broke are told with all progress since, each once."""

from types import SimpleNamespace

from hpcens.runs import RankReport, Report
from hpcens.scoring import record as module
from hpcens.scoring.record import Record
from hpcens.vocabulary import Progress, Segmentation


def test_what_broke_is_kept(tmp_path, monkeypatch):
    events = []
    phase = SimpleNamespace(form=SimpleNamespace(segmentation=Segmentation(40, 10)), number=1, of=1)
    plan = SimpleNamespace(instances=(), throughput=1.0, parts={}, members=(), cascade=())
    roles = SimpleNamespace(devices={}, idle=())
    spec = SimpleNamespace(cascade=())
    assignment = SimpleNamespace(
        phases=[phase], plan=plan, rank_roles=roles, job=SimpleNamespace(spec=spec), preflight=None
    )
    monkeypatch.setattr(module, "learn", lambda *of: None)
    epoch = SimpleNamespace(report=tmp_path / "report.json")
    record = Record(epoch, assignment, SimpleNamespace(add=events.append))
    for progress in (Progress((0,), 3), Progress((), 3, failure="lost"), Progress((1,), 2, 7), Progress((2,), 1, 5)):
        record.progress(progress)
    record.begin(phase, [3])
    record.progress(Progress((), 1, failure="lost"))  # a device says so at the beginning of each round
    assert [(event.rows, event.broken, event.taken) for event in events] == [
        (10, (), 0),
        (10, ("lost",), 0),
        (20, ("lost",), 7),
        (30, ("lost",), 12),
        (30, ("lost",), 12),
        (30, ("lost",), 12),
    ]
    record.report([RankReport("reader", {}, 0.0, 0.0, 0)], ())
    report = Report.load(epoch.report)
    assert (report.broken, report.taken) == (("lost",), 12)

"""Worlds without MPI: their ranks are functions of this process, with real members and files."""

from unittest.mock import patch

from hpcens.errors import COMPLETE, FAILURE
from hpcens.planning.order import read_order
from hpcens.runs import Verdict
from support import one_process


class Ranks:
    """Ranks as functions of this process. before: called with each start before it is lived."""

    before = staticmethod(lambda epoch: None)
    starts, given = 0, 0

    def __init__(self, expected, log):
        self.lives = False

    def give(self, epoch):
        Ranks.starts += not self.lives
        Ranks.given += 1
        self.lives = True
        try:
            self.before(epoch)
            self._score(epoch)
            epoch.judge(Verdict(COMPLETE, "scored"))
        except Verdicted as error:
            self.lives = False
            epoch.judge(error.verdict)
        except Exception as error:
            self.lives = False  # as MPI's abort ends them all
            epoch.judge(Verdict(getattr(error, "exit_code", FAILURE), str(error)))

    def _score(self, epoch):
        job, preflight = read_order(epoch)
        with patch.object(one_process, "begin", lambda run: epoch):
            one_process.score_start(job, preflight)

    def ended(self):
        return None if self.lives else 1

    def end(self, seconds=0):
        self.lives = False

    kill = end


class Verdicted(Exception):
    def __init__(self, verdict):
        self.verdict = verdict


def without_mpi(monkeypatch):
    """Have worlds begin no MPI, and try no members; count their starts anew."""
    monkeypatch.setattr("hpcens.worlds.world.UnitRanks", Ranks)
    monkeypatch.setattr("hpcens.checks.preflight.inspecting", one_process._inspecting)
    monkeypatch.setattr("hpcens.launch.start.tried", lambda job, preflight, testbed: preflight)
    monkeypatch.setattr("hpcens.launch.start.check_members", lambda *_, **__: ())
    monkeypatch.setattr(Ranks, "before", staticmethod(lambda epoch: None))
    Ranks.starts = Ranks.given = 0

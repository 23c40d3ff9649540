"""See a start of a world's ranks through, from outside: by its files, its launcher, and what this process is asked."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from hpcens.errors import COMPLETE, INCOMPLETE
from hpcens.launch import local
from hpcens.launch.follow import HeardSignals
from hpcens.runs import AGAIN, Claim, Epoch, RunDirectory, Verdict, end_ranks
from hpcens.runs.cancellation import ask_to_end
from hpcens.worlds.ranks import UnitRanks

# A verdict is looked for after this part of the time waited so far: of files that take 0.05 s soon, of a block of 15
# minutes once a second, a thousand times less often on a file server that a hundred worlds share.
_PART, _SHORTEST, _LONGEST = 0.05, 0.01, 1.0
_ASK_SECONDS = 1.0


def pause(waited: float) -> float:
    """Return how long to wait before the next look, in seconds. waited: so far."""
    return min(_LONGEST, max(_SHORTEST, _PART * waited))


def see_through(
    ranks: UnitRanks, run: RunDirectory, epoch: Epoch, log: Path, stop: HeardSignals, asked: Callable[[], str]
) -> Verdict:
    """Wait until a start has a verdict, or its ranks are gone.

    log    that the ranks write to
    stop   signals that this process has heard
    asked  returns why the world is asked to end; empty where it is not
    """
    claim = Claim.load(epoch.claim)
    names = {claim.id} if claim is not None else set()  # its job may come back to this file
    passed_on, began = False, time.monotonic()
    looked = began
    while (verdict := epoch.verdict) is None:
        if (code := ranks.ended()) is not None:
            verdict = epoch.verdict or epoch.judge(local.no_verdict(code, log))
            break
        if not passed_on and (stop.signals or time.monotonic() - looked > _ASK_SECONDS):
            looked = time.monotonic()
            if reason := asked():
                ask_to_end(run.cancel, reason, names)
                passed_on = True
        if len(stop.signals) > 1 and stop.signals[1] != signal.SIGUSR2:
            killed = f"killed by a second signal ({stop.signals[1].name})"
            verdict = epoch.judge(Verdict(128 + stop.signals[1], killed, AGAIN))
            ranks.kill()
            break
        time.sleep(pause(time.monotonic() - began))
    if verdict.code not in (COMPLETE, INCOMPLETE) or ranks.ended() is not None:
        ranks.end()
        end_ranks(epoch)
    return verdict

"""The signs of life of a rank, and its watch over those of the other nodes.

One rank a node writes the node's counter into the run directory; rank 0 sees whether all of them move, and the others
whether rank 0's does: ranks that Slurm could not end outlive their job, and would keep its successor out. Counters, not
times: clocks differ between hosts, and file systems show times late. A file is opened and closed for every beat,
because that is when NFS passes it on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from hpcens.errors import Silent, Stopped, Superseded
from hpcens.processes import is_stopped
from hpcens.runs import AGAIN, Epoch, RankReport, Signature, read_beat, signatures
from hpcens.runs.liveness import write_beat
from hpcens.runs.loads import write_load

_LOOK_BEATS = 5
_LOAD_BEATS = 5
_SILENT_LOOKS = 12


class Heartbeat:
    """Give a sign of life once a second, whenever the rank waits.

    node    on which the rank is
    tell    writes a line to the rank's witness; an empty one is a sign of life
    silent  looks at a node's counter, 5 s apart, after which a node whose counter stands is given up
    """

    def __init__(self, epoch: Epoch, node: str, tell: Callable[[str], None], silent: int = _SILENT_LOOKS) -> None:
        self._epoch = epoch
        self._node = node
        self._path = epoch.beat_of(node)
        self._tell = tell
        self._silent = silent
        self._count = 0
        self._writes = True
        self._watched: dict[str, bytes] = {}
        self._still: dict[str, int] = {}
        self._neighbours: list[Signature] | None = []
        self._stopped: dict[int, int] = {}
        self._load: Callable[[], RankReport | None] = lambda: None
        self._place = 0

    def speak_for_node(self, writes: bool) -> None:
        """Say whether this rank is the one that writes its node's counter; until then, every rank does.

        It then also looks after the ranks of its node, all of which have signed by now.
        """
        self._writes = writes
        self._neighbours = None if writes else []

    def tell_load(self, rank: int, load: Callable[[], RankReport | None]) -> None:
        """Leave word now and then of what this rank did so far, if anything; all ranks of its node have signed."""
        ranks = [signature.rank for signature in signatures(self._epoch, self._node)]
        self._place = ranks.index(rank) if rank in ranks else len(ranks)
        self._load = load

    def watch(self, nodes: Collection[str]) -> None:
        """Watch these nodes from now on."""
        self._watched = dict.fromkeys(nodes, b"")
        self._still = dict.fromkeys(nodes, 0)

    def beat(self) -> None:
        """Give a sign of life, and look at the others now and then.

        Raises Silent naming a node that is, Stopped naming a rank that is; Superseded where a newer start has taken the
        run over.
        """
        self._count += 1
        self._tell("")
        if self._writes:
            write_beat(self._path, self._count)
        if self._count % _LOAD_BEATS == 0 and (load := self._load()) is not None:
            write_load(self._epoch, self._node, self._place, load)
        if self._count % _LOOK_BEATS == 0:
            self._look()

    def _look(self) -> None:
        self._epoch.require_newest()
        for rank in self._neighbours_stopped():
            if self._stopped[rank] >= self._silent:
                raise self._stop_of(rank)
        if not self._watched:
            return
        for node, before in self._watched.items():
            now = read_beat(self._epoch.beat_of(node))
            # looks, not seconds: whoever suspended the job suspended the other nodes too
            self._still[node] = 0 if now != before else self._still[node] + 1
            self._watched[node] = now
            if self._still[node] >= self._silent:
                self._neighbours = None
                if stopped := self._neighbours_stopped():
                    raise self._stop_of(stopped[0])
                seconds = self._silent * _LOOK_BEATS
                raise Silent(f"node {node} gave no sign of life for {seconds} s: it is down, or cut off", AGAIN, node)

    def _neighbours_stopped(self) -> list[int]:
        """Look at the ranks of this node; return those that are stopped, and count for how many looks each has been.

        A rank that is stopped together with its witness can say nothing itself.
        """
        if self._neighbours is None:
            self._neighbours = [signature for signature in signatures(self._epoch) if signature.process.lives]
        stopped = [signature.rank for signature in self._neighbours if is_stopped(signature.process.pid)]
        self._stopped = {rank: self._stopped.get(rank, 0) + 1 for rank in stopped}
        return stopped

    def _stop_of(self, rank: int) -> Stopped:
        signature = next(signature for signature in signatures(self._epoch) if signature.rank == rank)
        who = f"rank {rank} ({signature.role}), process {signature.process.pid} on {signature.process.host}"
        return Stopped(f"{who}, was stopped (SIGSTOP) for {self._silent * _LOOK_BEATS} s", AGAIN)


def leaves_unseen(epoch: Epoch, error: BaseException) -> bool:
    """Return whether a rank that ends by this error says no word to MPI, since its job may have been started again.

    MPI asks Slurm to end the step, JOB.0; where the job was requeued that is the new start.
    """
    return isinstance(error, Silent | Superseded) or epoch.successor.exists()

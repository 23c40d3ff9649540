"""Write a result's stored members under another rule, or for other outputs; no network runs.

Written as a run writes: epoch, journal, read back, renamed when it is whole. The same command again continues it,
and the bytes are those that a run under the other rule would have written. The run directory beside it is gone then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np

from hpcens.combining.combiner import Combiner, tried_combiner
from hpcens.combining.masking import describe_rows
from hpcens.combining.request import check_request
from hpcens.config import spec_to_json
from hpcens.errors import COMPLETE, INCOMPLETE, DataError, as_verdict
from hpcens.processes import node
from hpcens.result import Finished, Form, Result, describe_result, is_finished, outputs_of, unsteady_of
from hpcens.runs import Epoch, Events, ProgressMade, RunDirectory, Verdict
from hpcens.runs.announcement import announced
from hpcens.runs.epoch import superseded
from hpcens.runs.liveness import beating
from hpcens.specs import RunSpec

# Segments that are made durable together.
_GROUP = 16


class Recombination:
    """Combine stored members again. All is checked before the first row is read: see `check_request`.

    source  the result whose members are stored
    spec    rule, outputs, compression, and which of its members in which order
    output  the result to make
    """

    def __init__(self, source: Finished, spec: RunSpec, output: Path) -> None:
        self._request = check_request(source, spec, output)
        self._run = RunDirectory.of(output)

    def is_complete(self) -> bool:
        """Return whether the output is there already. Raises FingerprintMismatch where it is made of something else."""
        return is_finished(self._request.output, lambda numerics: json.loads(json.dumps(self._request.fingerprint)))

    def write(self) -> Verdict:
        """Combine every segment that is missing."""
        request, run = self._request, self._run
        if broken := request.source.broken_columns:
            raise DataError(
                f"{request.source.path}: {', '.join(broken)} is not what was written", "the file is damaged"
            )
        epoch = run.begin()
        try:
            run.fix_fingerprint(request.fingerprint, epoch)
            with contextlib.closing(Events(epoch.events)) as events, beating(epoch.beat_of(node())):
                self._write(epoch, events)
        except KeyboardInterrupt:
            epoch.judge(Verdict(INCOMPLETE, "interrupted", "run the same command again to continue"))
            raise
        except BaseException as error:
            late = superseded(epoch) if epoch.successor.exists() else None
            ending = late or as_verdict(error)
            epoch.judge(Verdict(ending.exit_code, ending.what, ending.remedy))
            if late is not None:
                raise late from error
            raise
        rows = request.source.segmentation.rows
        verdict = epoch.judge(Verdict(COMPLETE, f"{rows:,} rows combined under rule {request.spec.rule.name}"))
        if verdict.code == COMPLETE:
            self._tidy()
        return verdict

    def _tidy(self) -> None:
        """Remove the run directory once the result is whole, unless a run of ranks has left something there."""
        scored = any(epoch.job.exists() for epoch in self._run.epochs())
        if not scored and self._run.submission is None and not announced(self._run.path):
            shutil.rmtree(self._run.path, ignore_errors=True)

    def _write(self, epoch: Epoch, events: Events) -> None:
        """Combine until all of it reads back whole, then give it its name."""
        request, form = self._request, self._form()
        axis = request.class_axis
        combiner = tried_combiner(request.spec, request.space, form.outputs, request.digests, request.shape, axis)
        result = Result.open(self._run, epoch, form)
        while result.missing or result.revoke_damaged():
            self._combine(combiner, result, events)
        result.finish(request.output, {"rows": form.segmentation.rows, "finished": time.time()})
        result.close()

    def _combine(self, combiner: Combiner, result: Result, events: Events) -> None:
        request, source, datasets = self._request, self._request.source, self._request.datasets
        missing, segmentation = result.missing, source.segmentation
        done = segmentation.rows - sum(map(segmentation.size, missing))
        for first in range(0, len(missing), _GROUP):
            group = missing[first : first + _GROUP]
            for segment in group:
                stored = source.read(segment, dict.fromkeys((*datasets, *request.pass_entropies.values())))
                passes = {member: stored[name] for member, name in request.pass_entropies.items()}
                stack, masked, present = [stored[name] for name in datasets], self._masked(segment), None
                if request.spec.partial:
                    present = request.present(segment)
                    masked = sorted({*masked, *np.flatnonzero(~present.any(1)).tolist()})
                result.write(segment, combiner.combine(segment, stack, masked, present, passes), {})
            result.flush(group)
            done += sum(map(segmentation.size, group))
            events.add(ProgressMade(done, segmentation.rows))

    def _masked(self, segment: int) -> list[int]:
        """Return the places within the segment of rows that the source has masked."""
        source = self._request.source
        masked = source.masked(segment)
        if masked and self._request.spec.bad_rows == "fail":
            start, _ = source.segmentation.bounds(segment)
            raise DataError(
                f"{source.path} has masked {describe_rows(start + row for row in masked)}",
                "write bad_rows: mask in the YAML",
            )
        return masked

    def _form(self) -> Form:
        """Describe the result to make, its columns copied from the source."""
        request, source, spec = self._request, self._request.source, self._request.spec
        origin = {
            "path": str(source.path),
            "fingerprint": hashlib.sha256(json.dumps(source.fingerprint, sort_keys=True).encode()).hexdigest(),
        }
        attributes = describe_result(
            spec,
            request.fingerprint,
            members=json.loads(source.attributes["members"]),
            datasets=[Path(name) for name in source.attributes["datasets"]],
            library="",
            unsteady=unsteady_of(source.attributes, spec.member_names),
            combined_from=json.dumps(origin),
        )
        return Form(
            outputs=outputs_of(spec, request.shape, request.space, request.class_axis),
            segmentation=source.segmentation,
            attributes=attributes,
            classes=spec.classes or (),
            documents={"plan": source.document("plan"), "config": spec_to_json(spec)},
            compression=spec.output.compression,
            columns=source.copy_columns,
        )

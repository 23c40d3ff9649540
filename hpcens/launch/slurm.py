"""Slurm: a start handed to a cluster through submitit. Every task of the job becomes a rank of one MPI world."""

from __future__ import annotations

import re
import secrets
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.config import job_from_json, job_to_json
from hpcens.errors import COMPLETE, FAILURE, UsageError
from hpcens.launch.as_rank import be_a_rank
from hpcens.launch.cores import cores_per_rank, say_cores
from hpcens.launch.follow import Watcher, follow
from hpcens.launch.job_python import job_command, srun_options
from hpcens.launch.placement import gpus_per_node, leaving_out, placement
from hpcens.launch.submitted import made_of
from hpcens.launch.time_limit import require_time_to_score
from hpcens.runs import DEFAULT_REQUEUES, Epoch, RunDirectory, Submission, Verdict
from hpcens.runs.cancellation import asked_to_end
from hpcens.runs.failing_nodes import failing_nodes
from hpcens.runs.logs import NODE, SCRIPT
from hpcens.runs.requeue import continues, outcome
from hpcens.runs.roll_call import START_SECONDS, again, roll_call_here
from hpcens.runs.scheduler_answer import AFTER_VERDICT_SECONDS, ASK_SECONDS, note
from hpcens.scheduler import jobs
from hpcens.scheduler.waiting import lasting
from hpcens.shell import has_control_characters, option, quoted
from hpcens.specs import DevicesSpec, Job, SlurmSpec
from hpcens.vocabulary import Plan

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight

DRAIN_SECONDS = 90
# The warning of a job's end would kill a task whose Python does not hear signals yet: what is ignored stays so.
DEAF = ("sh", "-c", 'trap "" USR2; exec "$@"', "sh")
_MPI = "pmi2"
# What sbatch says last where an option is wrong; the line before says which.
_HINT = re.compile(r'Try "sbatch --help"')
# More ranks than cores: the step has all of its job's, and each rank computes with as many threads as its device has.
_SHARING = ("--overcommit", "--whole", "--cpu-bind=none")
# srun would take them for the step's, which then has no more than its number of ranks times that
_FORGET_CPUS = "unset SLURM_CPUS_PER_TASK SRUN_CPUS_PER_TASK"
# Entries of PYTHONPATH that name the working folder: Python looks into it before any code of ours runs.
PATH_IN_ORDER = (
    "export PYTHONSAFEPATH=1",
    'export PYTHONPATH=$(tr : "\\n" <<< "$PYTHONPATH" | grep -vxF -e "" -e . -e "$PWD" | paste -sd:)',
)


def answers() -> bool:
    """Return whether there is a Slurm here that can be asked."""
    return jobs.answers()


def request(job: Job, settings: SlurmSpec, submission: str) -> dict[str, Any]:
    """Build what is asked of sbatch, as submitit's executor for Slurm names it.

    Raises UsageError where nothing says how many ranks a node is to have.
    """
    asked_further = (*settings.arguments, *map(str, settings.arguments.values()), *srun_options(settings))
    for text in (str(job.output), settings.python or "", *asked_further):
        if has_control_characters(text):  # each is a line of the script, another line would be run
            raise UsageError(f"{text} holds line breaks or other control characters", "write it without, or rename it")
    drain = settings.drain_seconds or DRAIN_SECONDS
    require_time_to_score(settings.time, drain)
    gpus = gpus_per_node(job, settings)
    reducers = Plan.load(job.plan).reducers if job.plan else 1
    tasks = settings.tasks_per_node or _ranks(job.spec.devices, gpus, reducers)
    cores = job.spec.devices.cpu.cores if job.spec.devices.cpu else 1
    shared = cores_per_rank(job, settings, tasks)
    cpus = settings.cpus_per_task or shared or (cores if cores > 1 else None)
    folder = RunDirectory.of(job.output).path / "submitit" / submission
    srun = [f"--mpi={settings.mpi or _MPI}", "--kill-on-bad-exit=1", *srun_options(settings)]
    setup = [*(settings.setup or ()), *PATH_IN_ORDER, again(folder)]
    if job.spec.devices.cpu and not gpus and not (settings.tasks_per_node or settings.cpus_per_task):
        if "cpu-bind" in settings.srun:
            raise UsageError("slurm.srun.cpu-bind: CPU devices bind themselves to cores of their own", "leave it out")
        # the reader and the reducer compute little: they share the cores of the devices, which are asked for alone
        srun += [f"--ntasks={tasks * (settings.nodes or 1)}", f"--ntasks-per-node={tasks}", *_SHARING]
        setup.append(_FORGET_CPUS)
        tasks = job.spec.devices.cpu.count
    elif cpus:
        srun.append(f"--cpus-per-task={cpus}")
    if shared and "cpu-bind" not in settings.srun and "cpu_bind" not in settings.srun:
        srun.append("--cpu-bind=none")
        say_cores(shared, tasks)
    arguments = leaving_out(settings, lambda: failing_nodes(RunDirectory.of(job.output)))
    srun += ["--label", f"--output={folder / NODE}"]  # one log a node; the last --output counts, and takes errors too
    return {
        "job_name": f"hpcens-{job.output.stem}-{submission}",
        "nodes": settings.nodes or 1,
        "ntasks_per_node": tasks,
        "gpus_per_node": gpus,
        "cpus_per_task": cpus,
        **placement(settings),
        "setup": setup,
        "signal_delay_s": drain,
        "srun_args": srun,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, "output": str(folder / SCRIPT), **arguments},
    }


def _ranks(devices: DevicesSpec, gpus: int | None, reducers: int) -> int:
    """Count the ranks of a node: one a device, one for a reader, and the reducers, which all sit on one node.

    Ranks that a node does not need park there.
    """
    if devices.cpu is None and gpus is None:
        raise UsageError(
            "nothing says how many devices a node has, so not how many ranks it needs",
            f"say it: {option('slurm', {'gpus_per_node': 4})}, or slurm.gpus_per_node or devices: {{cpu: 2}} in the"
            " YAML",
        )
    return (gpus or 0) + (devices.cpu.count if devices.cpu else 0) + 1 + reducers


def sbatch_text(job: Job, settings: SlurmSpec, submission: str = "ID") -> str:
    """Return the script that `submit` would hand to sbatch."""
    executor = _executor(job, request(job, settings, submission), submission, settings)
    text: str = executor._make_submission_file_text(executor._submitit_command_str, submission)
    return text


def submit(job: Job, preflight: Preflight, *, settings: SlurmSpec, resubmit: int = 0) -> QueuedJob:
    """Hand the job to Slurm; `resubmit` more wait behind it, each to take over if the one before was killed.

    preflight  is not handed on: the job's rank 0 checks again, on its node and at its time, and refuses other digests
    Raises UsageError where Slurm refuses it; what was submitted before is then as it was.
    """
    run = RunDirectory.of(job.output)
    number = secrets.token_hex(4)
    before = run.submission
    run.own("submitit", f"submitit/{number}")
    newest = run.newest
    submission = Submission(
        id=number,
        jobs=(),
        requeues=DEFAULT_REQUEUES if settings.requeues is None else settings.requeues,
        folder=str(run.path / "submitit" / number),
        epoch=newest.number if newest else 0,
        submitted=time.time(),
        rows=preflight.facts.rows,
        made_of=made_of(preflight),
    )
    run.keep(submission)  # before it can start
    arguments = request(job, settings, number)
    for _ in range(1 + resubmit):
        if submission.jobs:
            waits = {"dependency": f"afternotok:{submission.jobs[-1]}", "kill-on-invalid-dep": "yes"}
            arguments = arguments | {"additional_parameters": arguments["additional_parameters"] | waits}
        try:
            handed = _hand_in(job, arguments, number, settings)
        except UsageError as error:
            if submission.jobs:
                goes_on = f"job {', '.join(submission.jobs)} waits in the queue without those behind it"
                raise UsageError(f"{error.what}; {goes_on}", f"hpcens cancel {quoted(run.path)}; or leave it") from None
            run.keep(before or replace(submission, refused=error.what))
            raise
        submission = replace(submission, jobs=(*submission.jobs, handed))
        run.keep(submission)
    return QueuedJob(run, submission)


def _hand_in(job: Job, asked: dict[str, Any], submission: str, settings: SlurmSpec) -> str:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    arguments = job_to_json(job), submission, settings.start_seconds or START_SECONDS, asked["signal_delay_s"]
    try:
        return str(_executor(job, asked, submission, settings).submit(task, *arguments).job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        lines = [line for line in str(error).strip().splitlines() if not _HINT.search(line)]
        raise UsageError(
            f"sbatch refused the job: {lines[-1] if lines else error}",
            f"correct slurm: in the YAML, or {option('slurm')}",
        ) from None


def _executor(job: Job, arguments: dict[str, Any], submission: str, settings: SlurmSpec) -> Any:
    """Make submitit's executor; its files lie in the submission's own folder, as job ids come again on new clusters."""
    import submitit

    try:
        folder = RunDirectory.of(job.output).path / "submitit" / submission
        python = f"{shlex.join(DEAF)} {job_command(settings, 'hpcens.launch.queued')}"
        executor = submitit.SlurmExecutor(folder, python=python)
    except RuntimeError as error:
        raise UsageError(
            f"there is no Slurm here: {error}", f"submit from a login node, or with {option('local', True)}"
        ) from None
    stated = {key: value for key, value in arguments.items() if value is not None or key == "time"}
    executor.update_parameters(wckey=None, **stated)  # submitit's own key is one that sites which enforce keys refuse
    return executor


def task(job: str, submission: str, seconds: int = START_SECONDS, drain: int = 0) -> None:
    """Be a task of the job: one of its ranks. It ends with the verdict's code, for afterok and sacct to go by.

    seconds  in which all tasks are to come
    drain    seconds before the time limit at which it is warned of it; 0: not known
    """
    code = be_a_rank(lambda: job_from_json(job), submission, roll_call_here(Path(sys.argv[-1]), seconds), drain)
    if code:
        sys.exit(code)


def refuse_if_queued(run: RunDirectory) -> None:
    """Raise UsageError where a job of the last submission still waits or runs."""
    submission = run.submission
    for job in submission.jobs if submission else ():
        answer = jobs.ask(job)
        if answer is not None and answer.lives and submission and submission.id in answer.name:
            raise UsageError(
                f"job {job} is working on {run.path} already ({answer.state})", f"hpcens status {quoted(run.path)}"
            )


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A submission of which jobs wait or run."""

    run: RunDirectory
    submission: Submission

    @property
    def id(self) -> str:
        """The number of the first of its jobs."""
        return self.submission.jobs[0]

    def follow(self, watcher: Watcher) -> Verdict:
        """Show how its starts go on until one is complete or cancelled, or its jobs are gone."""
        queue = _Queue(self.run, self.submission, watcher.say)
        return follow(self.run, self.submission.epoch, tick=watcher.tick, verdict=queue.last_word, gone=queue.gone)


class _Queue:
    """A submission's jobs in Slurm's queue, asked for now and then.

    say  told what the first of them waits for
    """

    def __init__(self, run: RunDirectory, submission: Submission, say: Callable[[str], None]) -> None:
        self._run = run
        self._submission = submission
        self._say = say
        self._asked = time.monotonic() - ASK_SECONDS
        self._reason = ""
        self._judged = self._empty = False

    def last_word(self, epoch: Epoch) -> Verdict | None:
        """Return a start's verdict, unless a job may go on after it: put back by Slurm, or waiting to take over."""
        verdict = None if continues(epoch) else outcome(epoch)
        self._judged = verdict is not None
        if verdict is None or verdict.code == COMPLETE or self._empty:
            return verdict
        return verdict if asked_to_end(self._run.cancel, {self._submission.id}) else None

    def gone(self) -> Verdict | None:
        """Return a verdict where Slurm knows that none of the jobs lives."""
        if time.monotonic() - self._asked <= (AFTER_VERDICT_SECONDS if self._judged else ASK_SECONDS):
            return None
        self._asked = time.monotonic()
        ids = self._submission.jobs
        answers = jobs.ask_all(ids)
        note(self._run, answers or dict.fromkeys(ids))
        if answers is None:
            return None
        first = answers[ids[0]]
        if first.state == "PENDING" and first.why != self._reason:
            self._reason = first.why
            remedy = lasting(first.why, ids[0])
            never = f", which does not pass by itself; {remedy}" if remedy else ""
            self._say(f"job {ids[0]} waits: {self._reason}{never}")
        self._empty = not any(answer.lives for answer in answers.values())
        if not self._empty:
            return None
        return Verdict(FAILURE, "the job is gone and left no verdict", f"hpcens status {quoted(self._run.path)}")

"""Slurm's commands as small scripts: they print what a test lays down, and keep what they were asked."""

import time

from hpcens.scheduler.jobs import _COLUMNS

STAMP = "%Y-%m-%dT%H:%M:%S"
SCONTROL = """#!/bin/sh
echo "scontrol $*" >> {folder}/asked
cat {folder}/job-$4 2>/dev/null || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
"""
COMMAND = '#!/bin/sh\necho "{name} $*" >> {folder}/asked\ncat {folder}/{name}.out 2>/dev/null; exit 0\n'


class FakeSlurm:
    """Puts its commands first on the path. folder: of the scripts and of what they print."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        scripts = {name: COMMAND.replace("{name}", name) for name in ("squeue", "sacct", "scancel")}
        for name, text in (scripts | {"scontrol": SCONTROL}).items():
            (folder / name).write_text(text.replace("{folder}", str(folder)))
            (folder / name).chmod(0o755)

    def has(self, *jobs):
        """Lay down jobs: id, state, reason and name, and maybe restarts, and seconds until the expected start."""
        rows = []
        for path in self.folder.glob("job-*"):
            path.unlink()
        for number, state, why, name, *more in jobs:
            restarts, starts = (*more, 0, 0)[:2]
            stamp = time.strftime(STAMP, time.localtime(time.time() + starts)) if starts else "Unknown"
            (self.folder / f"job-{number}").write_text(
                f"JobId={number} JobName={name} JobState={state} Reason={why} Restarts={restarts} StartTime={stamp}"
                f" SubmitTime={time.strftime(STAMP)} NodeList=n1 ExitCode=1:0\n"
            )
            values = {"JobID": number, "State": state, "Reason": why, "NodeList": "n1", "exit_code": "256"}
            values |= {"RestartCnt": restarts, "StartTime": stamp, "SubmitTime": time.strftime(STAMP), "Name": name}
            rows.append("".join(str(values.get(column, "N/A")).ljust(width) for column, width in _COLUMNS.items()))
        (self.folder / "squeue.out").write_text("\n".join(rows) + "\n" if rows else "")

    @property
    def asked(self):
        """The commands so far, a line each."""
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []

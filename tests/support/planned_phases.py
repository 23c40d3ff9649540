"""A plan in phases, as a planner makes one where no placement holds the ensemble."""

import json

from support.project import MEMBERS

PHASES = (("conv",), ("linear", "recurrent"))


def write_plan(project, phases=PHASES, readers=1, reducers=1):
    """Write plan.json in these phases, every member on every device; 25 segments."""
    path = project.folder / "plan.json"
    if not path.exists():
        project.hpcens("plan", "dataset.h5", "-o", "plan.json")
    raw = json.loads(path.read_text())
    speeds = {member: speed for hosting in raw["hostings"] for member, speed in hosting["speeds"].items()}
    names = [device["name"] for device in raw["devices"]]
    raw["hostings"] = [
        {
            "devices": names,
            "memory": 0,
            "speeds": {member: speeds[member] for member in group},
            "shares": dict.fromkeys(group, raw["throughput"] / len(names)),
            "phase": phase,
        }
        for phase, group in enumerate(phases or [tuple(MEMBERS)])
    ]
    raw["numerics"]["segment_rows"] = 16
    path.write_text(
        json.dumps(raw | {"phases": phases, "readers": readers, "reducers": reducers, "window": 8, "read_ahead": 6})
    )
    return path

"""From Python: plan, run, submit, wait, cancel; the result is the one that the command line writes."""

import os
import subprocess
import sys

# without a guard for `__main__`, as notebooks have none
SCRIPT = """
import hpcens, numpy as np, pathlib
config = hpcens.load_config("hpcens.yaml")
plan = hpcens.plan("dataset.h5", config, quiet=True)
plan.save(pathlib.Path("plan.json"))
with hpcens.run("dataset.h5", config, plan="plan.json", quiet=True) as result:
    first = np.asarray(result["prediction"])
    print(result.rows, result.plan.numerics == plan.numerics)
handle = hpcens.submit(["dataset.h5"], config, output="other.h5", plan="plan.json", local=True)
with handle.result(90) as other:
    print((other["prediction"][:] == first).all(), handle.wait().code, handle.status().state)
again = hpcens.submit("dataset.h5", config, output="other.h5", plan="plan.json", local=True)
print(repr(again), again.id == "", again.result().rows)
handle = hpcens.submit("dataset.h5", config, output="third.h5", local=True)
print(handle.cancel())
try:
    handle.result(60)
except hpcens.Incomplete as error:
    print("Incomplete", "cancelled" in str(error))
"""


def test_a_script_scores_as_the_command_line_does(project):
    (project.folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=project.folder,
        env=project.environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["300 True", "True 0 complete"]
    assert lines[2] == "<hpcens.Handle of other.h5: complete, 300 of 300 rows> True 300"
    assert lines[-1] == "Incomplete True"
    assert (project.folder / "other.h5").exists() and project.output.exists()

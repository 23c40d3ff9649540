"""Members that break their contract, through the command line."""

import json

import pytest
from support.contract import Held


@pytest.fixture
def held(project):
    return Held(project.data(5))


class TestCommand:
    def test_a_broken_member_is_refused_before_a_run_begins(self, held):
        held.yaml("Linear", "exits")
        out = held.project.hpcens("run", "dataset.h5", code=1)
        assert out.startswith("hpcens: member m1: own:exits() raised SystemExit: exit(7) was called")
        assert not held.project.run.exists()

    def test_noise_and_threads_of_a_member_disturb_nothing(self, held):
        held.project.data(40)
        held.yaml("noisy", "leaks", "Probabilities")
        process = held.project.start("plan", "dataset.h5", "--json")
        out, error = process.communicate(timeout=100)
        assert process.returncode == 0, error
        assert {m for of in json.loads(out)["hostings"] for m in of["speeds"]} == {"m0", "m1", "m2"}
        assert "hpcens: warning: member m2 says output: logits" in error

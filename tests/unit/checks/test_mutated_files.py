"""A few of the mutants of tests/drills/fuzz_files.py, always the same."""

import pytest
from support.mutations import KINDS, MemberFuzz


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_of_a_member_is_an_answer(kind, project):
    fuzz = MemberFuzz(project.yaml(devices="{cpu: 1}"))
    fuzz.candidates(kind, range(12), seed=1)
    assert fuzz.counts[kind] == 12 and fuzz.faults == []

"""A fault that is found long after the YAML was read says where in it the member stands."""

import pytest

from hpcens.config import load
from hpcens.config.seats import naming_lines
from hpcens.errors import HpcensError, MemberError, MemberMisnamed
from hpcens.members import member_digests

YAML = """\
task: multiclass
members:
  - {name: a, factory: "json:loads", weights: a.pt}
  - name: b b
    factory: json:loads
    weights: b.pt
    arguments: {x: 1}
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(YAML)
    return load((tmp_path / "run.yaml").relative_to(tmp_path))


def seated(spec, error):
    with pytest.raises(type(error)) as caught, naming_lines(spec):
        raise error
    return str(caught.value)


def test_weights_and_modules_that_are_missing_are_found_by_line(spec, tmp_path):
    with pytest.raises(MemberMisnamed) as caught, naming_lines(spec):
        member_digests(spec.members[1], spec.search_path)
    assert caught.value.remedy == "check members[1].weights in the YAML (run.yaml:6)"
    (tmp_path / "run.yaml").write_text(YAML.replace('"json:loads"', '"jsn:loads"'))
    again = load((tmp_path / "run.yaml").relative_to(tmp_path))
    (tmp_path / "a.pt").touch()
    with pytest.raises(MemberMisnamed) as caught, naming_lines(again):
        member_digests(again.members[0], again.search_path)
    assert caught.value.remedy.endswith("from the Python path; it is members[0] (run.yaml:3)")


def test_each_of_several_members_has_its_line(spec):
    of_a, of_b = "member a: no\n    → correct members[].files", "member b b (and so c): no\n    → do"
    faults = f"2 members cannot be used:\n  {of_a}\n  {of_b}"
    assert seated(spec, MemberError(faults, "correct them")).splitlines() == [
        "2 members cannot be used:",
        "  member a: no",
        "    → correct members[0].files (run.yaml:3)",
        "  member b b (and so c): no",
        "    → do; it is members[1] (run.yaml:4)",
        "  → correct them",
    ]


def test_what_is_of_no_member_or_of_another_configuration_stays_as_it_is(spec, tmp_path):
    assert seated(spec, HpcensError("the disk is full", "make room")) == "the disk is full\n  → make room"
    assert seated(spec, HpcensError("member a: no")) == "member a: no"
    (tmp_path / "run.yaml").write_text(YAML.replace("name: a", "name: z"))
    load((tmp_path / "run.yaml").relative_to(tmp_path))
    assert seated(spec, MemberError("member a: no", "do")) == "member a: no\n  → do"

"""Views in a configuration: short and in full, the space written out, and written again as they are read."""

import pytest
from support.configuration import loaded

from hpcens.config import spec_from_json, spec_to_json
from hpcens.config.written import yaml_of
from hpcens.errors import UsageError
from hpcens.specs import ViewSpec, ViewsSpec

SHORT = "members: [{name: a, torchscript: a.pt, views: [identity, rot90, {call: seen:there, undo: seen:back}]}]\n"
APPLY = (ViewSpec(call="identity"), ViewSpec(call="rot90"), ViewSpec(call="seen:there", undo="seen:back"))


@pytest.mark.parametrize(
    ("more", "space"),
    [
        ("task: multiclass\n", "probabilities"),
        ("task: multiclass\nrule: {space: logits}\n", "logits"),
        ("task: regression\n", "values"),
    ],
)
def test_the_short_form_is_the_full_one_in_the_space_of_the_rule(file, more, space):
    spec = loaded(file, SHORT + more)
    assert spec.members[0].views == ViewsSpec(apply=APPLY, space=space)
    full = SHORT.replace("views: [", "views: {apply: [").replace("}]}]", f"}}], space: {space}, keep: false}}}}]")
    assert loaded(file, full + more) == spec == spec_from_json(spec_to_json(spec))
    assert loaded(file.with_name("again.yaml"), yaml_of(spec, file.parent)) == spec


def test_their_functions_have_to_be_where_a_yaml_is_written_to(file, tmp_path):
    file.with_name("seen.py").write_text("")
    spec = loaded(file, SHORT + "task: multiclass\n")
    with pytest.raises(UsageError, match=r"the code of members \(seen\) is imported from"):
        yaml_of(spec, tmp_path / "elsewhere")

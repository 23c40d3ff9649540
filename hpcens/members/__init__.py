"""Members: from a MemberSpec to what an engine runs, all that makes it pinned by digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.errors import MemberError, MemberMisnamed, UsageError
from hpcens.members.carried import Carried as Carried
from hpcens.members.carried import carried_of as carried_of
from hpcens.members.complex_files import holds_complex
from hpcens.members.feature_words import in_words_of_features
from hpcens.members.kept_digests import digest as digest_file
from hpcens.members.layout import Taken as Taken
from hpcens.members.layout import common_axis as common_axis
from hpcens.members.layout import describe_taken as describe_taken
from hpcens.members.layout import layout_digests as layout_digests
from hpcens.members.layout import result_axis as result_axis
from hpcens.members.layout import taken as taken
from hpcens.members.onnx_files import data_files
from hpcens.specs import MemberSpec, ResizeSpec, RunSpec, Space
from hpcens.usercode import member_code_digest

if TYPE_CHECKING:
    from hpcens.members.casting import Cast as Cast
    from hpcens.members.casting import unwritten as unwritten
    from hpcens.members.forward import Forward as Forward
    from hpcens.members.network import Network as Network
    from hpcens.members.prepared import Prepared as Prepared
    from hpcens.members.preprocess import PreprocessingFailed as PreprocessingFailed
    from hpcens.members.preprocess import cause_of as cause_of
else:
    # loaded by the first who asks for them: they import torch
    _NAMES = {
        "casting": ("Cast", "unwritten"),
        "forward": ("Forward",),
        "network": ("Network",),
        "prepared": ("Prepared",),
        "preprocess": ("PreprocessingFailed", "cause_of"),
    }

    def __getattr__(name):
        for module, names in _NAMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


COMPLEX = "complex numbers"
"""What says of a member that it has some, among its digests: of one with code once it was tried."""

OF_FEATURES = "features "
"""What the digests of a member's featuriser begin with, among its own."""


def member_digests(spec: MemberSpec, search_path: Path) -> dict[str, str]:
    """Digest what makes the member: its files, the modules its functions lie in, and how it is used.

    Imports no torch, and runs no code of the member's. Raises MemberError where something cannot be found.
    """
    owner = f"member {spec.name}"
    digests = {"source": spec.source, "weights": "factory" if spec.loads_itself else _digest(spec, spec.file)}
    if spec.onnx is not None:
        digests |= {f"weights in {path.name}": _digest(spec, path) for path in data_files(spec)}
    if spec.factory is not None:
        digests["code"] = member_code_digest(owner, spec.factory, search_path)
        digests["factory"] = spec.factory
        digests["arguments"] = json.dumps(spec.arguments, sort_keys=True)
    for i, step in enumerate(spec.preprocess):
        settings = {key: value for key, value in asdict(step).items() if value is not None}
        if step.resize is not None:
            how = settings["resize"]
            settings["resize"] = how.pop("size")
            if step.resize != ResizeSpec(size=step.resize.size):  # what every resize of format 1 is, and does not say
                digests[f"resize of preprocess[{i}]"] = json.dumps(how, sort_keys=True)
        digests[f"preprocess[{i}]"] = json.dumps(settings, sort_keys=True)
        if step.call is not None:
            digests[f"code of preprocess[{i}]"] = member_code_digest(owner, step.call, search_path)
    if spec.views is not None:
        digests |= {f"views[{i}]": view.described for i, view in enumerate(spec.views.apply)}
        digests["space of views"] = spec.views.space or "that of the rule"
        of_views = {place: path for place, path in spec.functions.items() if place.startswith("views")}
        digests |= {
            f"code of {place}": member_code_digest(owner, path, search_path) for place, path in of_views.items()
        }
    digests |= {f"file {_written(file, search_path)}": _digest(spec, file, "files") for file in spec.files}
    if (spec.torchscript or spec.exported) and holds_complex(spec.file):
        digests[COMPLEX] = "kept"
    if spec.featuriser is not None:
        with in_words_of_features(spec.features):
            of_features = member_digests(spec.front, search_path)
        of_features["precision"] = spec.front.computes_in
        digests |= {f"{OF_FEATURES}{key}": digest for key, digest in of_features.items()}
    used = {
        "inputs": spec.inputs,
        "select": spec.select,
        "classes": spec.classes and list(spec.classes.items()),
        "gradients": spec.gradients or None,
        "key of weights": spec.weights and spec.weights.key,
        "prefix of weights": spec.weights and spec.weights.prefix,
    }
    if spec.bad_rows is not None:
        digests["bad_rows"] = spec.bad_rows
    digests |= passes_digest(spec)
    return digests | {key: json.dumps(value) for key, value in used.items() if value is not None}


def passes_digest(spec: MemberSpec) -> dict[str, str]:
    """Return what of a member's passes is part of what it is made of; nothing where it has none."""
    return {} if spec.passes is None else {"passes": json.dumps(asdict(spec.passes))}


STATE = "state"
"""The digest of weights that a factory loads itself, which only its trial can tell."""


def has_code(spec: MemberSpec) -> bool:
    """Tell whether the member is loaded, or its inputs prepared, by code of the user's own."""
    sources = spec.factory is not None or spec.pickled is not None or spec.featuriser is not None
    return sources or bool(spec.functions)


def own_modules(spec: MemberSpec, digests: Mapping[str, str]) -> dict[str, str]:
    """Return the modules in which the member's functions lie, with their digests out of `member_digests`."""
    calls = {f"code of {place}": path for place, path in spec.functions.items()}
    paths = {"code": spec.factory} | calls
    if spec.featuriser is not None:
        calls = {f"code of {place}": path for place, path in spec.front.functions.items()}
        paths |= {f"{OF_FEATURES}{key}": path for key, path in ({"code": spec.front.factory} | calls).items()}
    return {path.partition(":")[0]: digests[key] for key, path in paths.items() if path is not None}


def digest_of(digests: dict[str, str]) -> str:
    """Return one digest of all that makes the member: of what `member_digests` gave, not of which rows it scores."""
    own = {key: digest for key, digest in digests.items() if key != "rows"}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:32]


def speed_digest(digests: Mapping[str, str]) -> str:
    """Return one digest of what makes a member as fast as it is: the same for members that differ in weights alone.

    digests  what `member_digests` gave; of a file that brings its graph with its weights all of it counts
    """
    own = ("weights", STATE, "key of weights", "prefix of weights")
    weights = (*own, *(f"{OF_FEATURES}{key}" for key in own))
    return digest_of({key: digest for key, digest in digests.items() if "code" not in digests or key not in weights})


def _written(file: Path, search_path: Path) -> str:
    """Return a path as it may be written in the YAML: relative to its folder where it lies there."""
    return str(file.relative_to(search_path)) if file.is_relative_to(search_path) else str(file)


def _digest(spec: MemberSpec, file: Path, key: str = "") -> str:
    try:
        return digest_file(file)
    except OSError as error:
        key = key or ("weights" if spec.source == "factory" else spec.source)
        raise MemberMisnamed(
            f"member {spec.name}: {key} {file}: {error.strerror}", f"check members[].{key} in the YAML"
        ) from None


def input_places(spec: MemberSpec, names: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of the dataset's inputs that the member takes, in its order.

    names  the dataset's inputs
    Raises UsageError where there is no such input.
    """
    front = spec.front
    taken = names if front.inputs is None else front.inputs
    unknown = [name for name in taken if name not in names]
    unknown += [step.input for step in front.preprocess if step.input is not None and step.input not in taken]
    if unknown:
        where = "members[]" if front is spec else f"features.{spec.features}"
        raise UsageError(
            f"{f'features {spec.features}' if front is not spec else f'member {spec.name}'} takes the input"
            f" {unknown[0]}, which the dataset has not",
            f"correct {where}.inputs or the input of its steps; there are {', '.join(names)}",
        )
    return tuple(names.index(name) for name in taken)


def load(
    member: MemberSpec,
    spec: RunSpec,
    network: Network | None = None,
    *,
    inputs: Sequence[str],
    space: Space,
    cores: int = 1,
    digests: Mapping[str, str] | None = None,
) -> Forward:
    """Load a member of the ensemble on the CPU, to be placed on a device by an engine.

    network  as it was prepared by an earlier process; None: it is built, and its weights loaded
    inputs   names of the dataset's inputs, in their order
    space    the one the rule combines in
    cores    for runtimes other than torch
    digests  what `member_digests` gave when the run was planned: other weights are refused
    Raises MemberError: not importable, does not build, another kind of file, weights do not match.
    """
    from hpcens.members.conversion import Conversion
    from hpcens.members.featuriser import load_featuriser
    from hpcens.members.fitting import joined_state
    from hpcens.members.forward import Forward
    from hpcens.members.preprocess import Preprocessing
    from hpcens.members.surroundings import surroundings_of
    from hpcens.members.views import Views

    if digests is not None:
        now = member_digests(member, spec.search_path)
        opened = [key for key in digests if key.removeprefix(OF_FEATURES).startswith(("weights", "file "))]
        if changed := [key for key in opened if now.get(key) != digests[key]]:
            key = changed[0].removeprefix(OF_FEATURES)
            owner = member.front if key != changed[0] else member
            file = key.removeprefix("file ") if key.startswith("file ") else str(owner.file)
            raise MemberError(f"member {member.name}: {file} changed since the run was planned", "run it again")
    places = input_places(member, inputs)
    prepared = network is not None
    surroundings = surroundings_of(member)
    names, featuriser = [inputs[place] for place in places], None
    if member.featuriser is not None:
        of_features = {key: digest for key, digest in (digests or {}).items() if key.startswith(OF_FEATURES)}
        featuriser = load_featuriser(member, names, spec.search_path, of_features)
    with surroundings.while_loading():
        preprocessing = featuriser or Preprocessing(member, names, spec.search_path)
        conversion = Conversion(member, spec, space)
        views = Views(member, spec.search_path, conversion) if member.views is not None else None
        network = network or _network(member, spec.search_path, cores)
    if featuriser is not None and not prepared:
        network = replace(network, state=joined_state(network.state, featuriser.state))
    if network.state and digests is not None and digests.get(STATE, network.state) != network.state:
        raise MemberError(
            f"member {member.name}: its factory loaded other weights than when it was tried",
            "let it load one version by name, and remove the trials in the cache",
        )
    return Forward(
        member,
        network,
        preprocessing,
        inputs=places,
        conversion=conversion,
        views=views,
        prepared=prepared,
        surroundings=surroundings,
    )


def _network(spec: MemberSpec, search_path: Path, cores: int) -> Network:
    if spec.onnx is not None:
        from hpcens.members.onnx import load_onnx

        return load_onnx(spec, cores)
    if spec.torchscript is not None or spec.exported is not None:
        from hpcens.members.graphs import load_exported, load_torchscript

        return load_exported(spec) if spec.torchscript is None else load_torchscript(spec)
    from hpcens.members.modules import load_module

    return load_module(spec, search_path)

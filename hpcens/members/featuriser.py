"""The featuriser: a module that stands between the dataset's inputs and the networks of several members."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from weakref import WeakValueDictionary

import torch

from hpcens.errors import MemberError
from hpcens.members.casting import Cast, cast, in_precision
from hpcens.members.feature_words import in_words_of_features
from hpcens.members.modules import load_module
from hpcens.members.prepared import Values
from hpcens.members.preprocess import Preprocessing, PreprocessingFailed
from hpcens.members.surroundings import surroundings_of
from hpcens.specs import MemberSpec


class Featuriser(torch.nn.Module):
    """Preprocessing, precision and module; its output by name, or by number where it gives a tuple."""

    # state  digest of weights that its factory has loaded; empty where they come from a file

    def __init__(self, member: MemberSpec, names: Sequence[str], search_path: Path) -> None:
        """Load the featuriser of a member. Raises MemberError where it cannot be.

        names  names of the inputs that it takes, in its order
        """
        super().__init__()
        front = member.front
        self._name = member.features
        self._surroundings = surroundings_of(front)
        self._precision: torch.dtype = getattr(torch, front.dtype)
        with self._surroundings.while_loading():
            self._preprocessing = Preprocessing(front, names, search_path)
            network = load_module(front, search_path)
            self._module = in_precision(front, network.module)
        self.state = network.state

    @property
    def casts(self) -> tuple[Cast, ...]:
        """What each of its inputs is cast to before anything else."""
        return self._preprocessing.casts

    @property
    def bytes(self) -> int:
        """Bytes of its parameters and buffers."""
        return sum(x.nbytes for x in (*self._module.parameters(), *self._module.buffers()))

    def forward(self, *rows: torch.Tensor) -> Values:
        """Return what it gives for (batch, *row shape) of each input as it is stored.

        Raises PreprocessingFailed where it raises, MemberError where it gives something else than tensors of as many
        rows.
        """
        to = self._precision
        with self._surroundings.around(), in_words_of_features(self._name):
            try:
                inputs = [x.to(to) if x.is_floating_point() else cast(x, to) for x in self._preprocessing(*rows)]
                given = self._module(*inputs)
            except MemberError:
                raise
            except PreprocessingFailed as failure:
                raise PreprocessingFailed(f"features {self._name}: {failure.step}", failure.error) from failure.error
            except (Exception, SystemExit) as error:
                raise PreprocessingFailed(f"features {self._name}", error) from error
        values = _by_name(given)
        for name, value in values.items():
            if not isinstance(value, torch.Tensor) or value.shape[:1] != rows[0].shape[:1]:
                shown = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                raise MemberError(
                    f"features {self._name} gave {shown} as {name} for {len(rows[0])} rows",
                    "let its forward return a tensor, a tuple or a mapping of tensors, with one entry a row each",
                )
        return values

    def prepare(self, rows: Sequence[torch.Tensor]) -> Values:
        """Return what it gives, without autograd, whoever calls it."""
        with torch.inference_mode():
            values: Values = self(*rows)
            return values


def taken_of(values: Values, wanted: Sequence[str] | None, member: str) -> Iterator[torch.Tensor]:
    """Yield what a member takes of its features. Raises MemberError where they have no such output.

    wanted  names or numbers; None: all
    """
    for name in values if wanted is None else wanted:
        if name not in values:
            raise MemberError(
                f"member {member} takes {name} of its features, and they are {', '.join(values)}",
                "correct members[].inputs in the YAML",
            )
        yield values[name]


def _by_name(given: object) -> Mapping[str, torch.Tensor]:
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    return {str(i): value for i, value in enumerate(given if isinstance(given, tuple | list) else (given,))}


# One for all members in a process: its weights are loaded once.
_LOADED: WeakValueDictionary[str, Featuriser] = WeakValueDictionary()


def load_featuriser(
    member: MemberSpec, names: Sequence[str], search_path: Path, digests: Mapping[str, str]
) -> Featuriser:
    """Return the featuriser of a member: the one that another member of this process has, where there is one.

    names    names of the inputs that it takes, in its order
    digests  that it was found to have, as far as they are known
    """
    assert member.featuriser is not None, "others have none"
    parts = [member.features, asdict(member.featuriser), list(names), str(search_path), dict(digests)]
    key = json.dumps(parts, default=str)
    featuriser = _LOADED.get(key)
    if featuriser is None:
        with in_words_of_features(member.features):
            featuriser = Featuriser(member, names, search_path)
        _LOADED[key] = featuriser
    return featuriser

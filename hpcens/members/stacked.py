"""Stacked: equal members, of other weights alone, as one batched network that computes all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from hpcens.errors import RuntimeUnsuited
from hpcens.members import load
from hpcens.members.conversion import Conversion
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.members.surroundings import Surroundings
from hpcens.specs import MemberSpec, RunSpec, Space
from hpcens.specs.groups import grouped_spec
from hpcens.vocabulary.groups import group_name


class Stacked(Forward):
    """A group's forward: (batch, members, *output shape). Its members share all but their weights."""

    # members  their names, in member order: that of the second axis of what it returns

    def __init__(
        self,
        spec: MemberSpec,
        members: Sequence[str],
        network: Network,
        preprocessing: Preprocessing,
        *,
        inputs: tuple[int, ...],
        conversion: Conversion,
        surroundings: Surroundings,
    ) -> None:
        """Run members as one.

        spec        of the first of them, under the group's name
        members     their names, in member order
        network     gives (batch, members, *output shape) of what each module gives
        conversion  of what one of them gives
        The others are those of `Forward`.
        """
        each, around = _OfEach(conversion), surroundings
        super().__init__(
            spec, network, preprocessing, inputs=inputs, conversion=each, prepared=True, surroundings=around
        )
        self.members = tuple(members)

    def widened(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what it returns for a row. shape: of a row of a member's output."""
        return (len(self.members), *shape)


class _OfEach(Conversion):
    """Converts what each member gave, (batch, members, *output shape)."""

    def __init__(self, of_one: Conversion) -> None:
        torch.nn.Module.__init__(self)
        self._of_one = of_one

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the outputs as the ensemble has them."""
        converted: torch.Tensor = self._of_one(values.flatten(0, 1))
        return converted.reshape(*values.shape[:2], *converted.shape[1:])

    def carried(self, shape: tuple[int, ...]) -> None:
        """Return None: members with passes run by themselves."""


class _Batched(torch.nn.Module):
    """Networks of one shape, their numbers stacked: called once, where each would be called by itself."""

    def __init__(self, modules: Iterable[torch.nn.Module], count: int) -> None:
        """Stack the numbers of so many modules, one after another: no two of them need be there at once.

        Raises RuntimeUnsuited where they are not of one shape.
        """
        super().__init__()
        self.training = False
        self._places: dict[str, int] = {}
        self._skeleton: tuple[torch.nn.Module, ...] = ()  # no module of this one: its own numbers are never looked at
        first: dict[str, torch.Tensor] = {}
        for number, module in enumerate(modules):
            state = dict(_state(module))
            if not number:
                self._make_room(state, count)
                self._skeleton = (module.to("meta"),)
                first = {name: numbers.to("meta") for name, numbers in state.items()}
            _require_alike(first, state)
            for name, place in self._places.items():
                getattr(self, f"state{place}")[number] = state[name].detach()

    def _make_room(self, state: Mapping[str, torch.Tensor], count: int) -> None:
        """Make room for the numbers of so many modules, for what is tied once."""
        tied: dict[int, int] = {}
        for name, numbers in state.items():
            place = self._places[name] = tied.setdefault(id(numbers), len(tied))
            self.register_buffer(f"state{place}", numbers.new_empty((count, *numbers.shape), requires_grad=False))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs of all, (batch, members, *output shape). inputs: (batch, *row shape) each."""
        states = {name: getattr(self, f"state{place}") for name, place in self._places.items()}
        one = torch.func.vmap(self._one, in_dims=(0, *(None for _ in inputs)), out_dims=1)
        values: torch.Tensor = one(states, *inputs)
        return values

    def _one(self, state: dict[str, torch.Tensor], *inputs: torch.Tensor) -> Any:
        # what is tied is in it under each of its names
        return torch.func.functional_call(self._skeleton[0], state, inputs, tie_weights=False)


def _state(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _require_alike(first: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    if list(first) != list(other):
        raise RuntimeUnsuited("stacked: they name their weights otherwise")
    for name, numbers in first.items():
        if (numbers.shape, numbers.dtype) != (other[name].shape, other[name].dtype):
            shapes = f"{tuple(numbers.shape)} and {tuple(other[name].shape)}"
            raise RuntimeUnsuited(f"stacked: {name.removeprefix('module.')} has other shapes or types, {shapes}")


def load_stacked(
    members: Sequence[MemberSpec],
    spec: RunSpec,
    *,
    inputs: Sequence[str],
    space: Space,
    cores: int = 1,
    digests: Mapping[str, Mapping[str, str]] | None = None,
) -> Stacked:
    """Load equal members as one, on the CPU; parameters as those of `load`, digests by member.

    Raises MemberError where one cannot be loaded, RuntimeUnsuited where their networks are not of one shape.
    """

    def loaded(member: MemberSpec) -> Forward:
        own = None if digests is None else digests[member.name]
        return load(member, spec, inputs=inputs, space=space, cores=cores, digests=own)

    names = [member.name for member in members]
    lead, grouped = loaded(members[0]), grouped_spec(members, group_name(names))
    others = (loaded(member).passes for member in members[1:])
    network = Network(_Batched(chain([lead.passes], others), len(members)))
    with lead.surroundings.while_loading():
        preprocessing = Preprocessing(grouped, [inputs[place] for place in lead.inputs], spec.search_path)
    return Stacked(
        grouped,
        names,
        network,
        preprocessing,
        inputs=lead.inputs,
        conversion=Conversion(grouped, spec, space),
        surroundings=lead.surroundings,
    )

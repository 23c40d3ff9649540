"""Forward: one member as an engine runs it, from stored rows to its output in the space the rule combines in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from hpcens.errors import MemberError
from hpcens.members.network import Network, Passes
from hpcens.members.preprocess import Preprocessing, PreprocessingFailed
from hpcens.specs import MemberSpec, Space
from hpcens.usercode import describe_exception

Prepare = Callable[[Network, Sequence[torch.Tensor]], Network]
"""A network, and what it is called with for one whole batch → the network as a runtime executes it."""


class Forward(torch.nn.Module):
    """preprocessing → precision → network → the output that is meant → softmax where due → the ensemble's classes."""

    def __init__(
        self,
        spec: MemberSpec,
        network: Network,
        preprocessing: Preprocessing,
        *,
        inputs: tuple[int, ...],
        space: Space,
        rounds: tuple[tuple[int, ...], ...] | None,
        prepared: bool = False,
    ) -> None:
        """As `members.load` makes it.

        inputs    which of the dataset's inputs it is called with, in its order
        space     the one the rule combines in
        rounds    see `classes.rounds`; None where the classes are the ensemble's
        prepared  whether the network is one that `execute` has made, in an earlier process
        """
        super().__init__()
        self._rounds: torch.Tensor | None
        self.inputs = inputs
        self._name = spec.name
        self._precision: torch.dtype = getattr(torch, spec.precision)
        self._softmax = spec.output == "logits" and space == "probabilities"
        self._network = network if prepared else _in_precision(spec, network)
        self._choose: Callable[[object], torch.Tensor] = (
            _whole if prepared else partial(_chosen, spec.name, spec.select)
        )
        self.passes = Passes(self._network, self._choose)
        self._preprocessing = preprocessing
        self._given = len(spec.classes or ())
        self._mends = any(step.call is not None for step in spec.preprocess)
        self.register_buffer("_rounds", None if rounds is None else torch.tensor(rounds), persistent=False)

    @property
    def judged(self) -> tuple[int, ...]:
        """Inputs that must be finite: none where a function of the user's own prepares them, which may mend them."""
        return () if self._mends else self.inputs

    def accepts(self, rows: Sequence[torch.Tensor]) -> bool:
        """Tell whether the preprocessing takes these rows, (rows, *row shape) of each input the member takes.

        Raises PreprocessingFailed where a step of it calls exit().
        """
        try:
            self._preprocessing(*rows)
        except PreprocessingFailed as failure:
            if isinstance(failure.error, SystemExit):
                raise
            return False
        except Exception:  # they do not fit a step, or cannot be cast
            return False
        return True

    def forward(self, *rows: torch.Tensor) -> torch.Tensor:
        """(batch, *row shape) of each input → (batch, *output shape) float32.

        Raises MemberError where what the member gives is not what its spec says.
        """
        values = self.given(*rows)
        if self._softmax:
            values = torch.softmax(self._checked(values), -1)
        return values if self._rounds is None else self._mapped(values, self._rounds)

    def given(self, *rows: torch.Tensor) -> torch.Tensor:
        """What the member itself gives, float32: before any softmax, in its own classes."""
        count = len(rows[0])
        values: torch.Tensor = self.passes(*self._inputs(rows))
        if values.shape[:1] != (count,):
            raise MemberError(
                f"member {self._name} returned {tuple(values.shape)} for {count} rows", "one output row per row"
            )
        if not values.is_floating_point():
            raise MemberError(
                f"member {self._name} returned {_shown(values)}, and members give real floats",
                "let its forward end with logits, probabilities or values as floats",
            )
        return values.to(torch.float32)

    def execute(
        self, prepare: Callable[[Network, Sequence[torch.Tensor]], Network], rows: Sequence[torch.Tensor]
    ) -> None:
        """From now on run what `prepare` makes of the network, the choice of its output included, and these rows."""
        network = replace(self._network, module=_Chosen(self._network.module, self._choose).eval())
        prepared = prepare(network, self._inputs(rows))
        self._network, self._choose = prepared, _whole
        self.passes = Passes(prepared, self._choose)

    def _inputs(self, rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the network is called with."""
        return [x.to(self._precision) if x.is_floating_point() else x for x in self._preprocessing(*rows)]

    def _checked(self, logits: torch.Tensor) -> torch.Tensor:
        if logits.dim() < 2 or logits.shape[-1] < 2:
            raise MemberError(
                f"member {self._name} returned {tuple(logits.shape)}: logits of {len(logits)} rows need an axis of"
                " two classes or more to become probabilities",
                "give it output: probabilities or values in the YAML, or one logit per class",
            )
        return logits

    def _mapped(self, values: torch.Tensor, rounds: torch.Tensor) -> torch.Tensor:
        """The last axis in the ensemble's classes; always added in one order, which index_add on a GPU would not."""
        if values.dim() < 2 or values.shape[-1] != self._given:
            raise MemberError(
                f"member {self._name} returned {tuple(values.shape)}, and its classes name {self._given}",
                "correct members[].classes in the YAML: one for each place of the last axis, in its order",
            )
        padded = torch.nn.functional.pad(values, (0, 1))
        first, *others = rounds.unbind()
        made = padded[..., first]
        for places in others:
            made = made + padded[..., places]
        return made


class _Chosen(torch.nn.Module):
    """A network that gives one tensor."""

    def __init__(self, module: torch.nn.Module, choose: Callable[[object], torch.Tensor]) -> None:
        super().__init__()
        self.module = module
        self._choose = choose

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._choose(self.module(*inputs))


def _whole(given: object) -> torch.Tensor:
    assert isinstance(given, torch.Tensor)
    return given


def _in_precision(spec: MemberSpec, network: Network) -> Network:
    try:
        return replace(network, module=network.module.to(getattr(torch, spec.precision)))
    except Exception as error:
        raise MemberError(
            f"member {spec.name} cannot be brought to {spec.precision}: {describe_exception(error)}",
            "give it precision: float32",
        ) from error


def _chosen(name: str, select: str | None, given: object) -> torch.Tensor:
    """The tensor that is meant, of all that the network returned."""
    parts = _parts(given)
    if select is None:
        if isinstance(given, torch.Tensor):
            return given
        remedy = f"say which output is meant, for example select: {next(iter(parts))}" if parts else ""
        raise MemberError(
            f"member {name} returned {_shown(given)}, not one tensor", remedy or "let its forward return one"
        )
    found = parts.get(select)
    if not isinstance(found, torch.Tensor):
        raise MemberError(
            f"member {name} returned {_shown(given)}, of which select: {select} is no tensor",
            f"it has: {', '.join(parts) or 'one output only, so remove select'}",
        )
    return found


def _parts(given: object) -> Mapping[str, object]:
    """The outputs in a container, by index, key or attribute."""
    if isinstance(given, Mapping):
        return {str(key): value for key, value in given.items()}
    if isinstance(given, Sequence) and not isinstance(given, str):
        names = getattr(given, "_fields", ())
        return {str(i): value for i, value in enumerate(given)} | dict(zip(names, given, strict=False))
    if isinstance(given, torch.Tensor):
        return {}
    return {name: value for name, value in getattr(given, "__dict__", {}).items() if isinstance(value, torch.Tensor)}


def _shown(given: object) -> str:
    if isinstance(given, torch.Tensor):
        return f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}"
    parts = _parts(given)
    inner = f" of {', '.join(f'{key}: {_shown(part)}' for key, part in list(parts.items())[:5])}" if parts else ""
    return f"{type(given).__name__}{inner}"

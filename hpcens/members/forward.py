"""Forward: one member as an engine runs it, from stored rows to its output in the space the rule combines in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import torch

from hpcens.errors import MemberError
from hpcens.members.carried import Carried
from hpcens.members.casting import Cast, cast, in_precision
from hpcens.members.choice import Chosen, chosen, shown, whole
from hpcens.members.conversion import Conversion
from hpcens.members.draws import Draws
from hpcens.members.featuriser import Featuriser, taken_of
from hpcens.members.network import Network, Passes
from hpcens.members.prepared import Prepared, Values
from hpcens.members.preprocess import Preprocessing, PreprocessingFailed
from hpcens.members.single_rows import Called, SingleRows
from hpcens.members.surroundings import Surroundings, kept_generators
from hpcens.members.views import Views
from hpcens.specs import MemberSpec

Prepare = Callable[[Network, Sequence[torch.Tensor]], Network]
"""Takes a network, and what it is called with for one whole batch; returns the network as a runtime executes it."""
Replayed = Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]
"""Takes rows, (batch, *row shape) of each input, and returns what the member itself gives, and its output."""


class Forward(torch.nn.Module):
    """Preprocessing, precision, network, choice of its output, conversion to what the ensemble combines; in turn."""

    # gradients  whether it takes gradients in its forward
    # recordable all it does is its module's and hpcens' own: a batch is the same kernels each time
    # state, notes  see `Network`
    # complex    whether its network has complex parameters or buffers
    # single_rows  runs batches of one row
    # draws      of a stochastic member: its passes; None for others
    # replayed   where all it does for a batch was recorded: what gives it; else None
    # carried    where entropies lie beside what it returned; None where there are none
    # members    of a group, see `stacked`; a member by itself has none
    members: tuple[str, ...] = ()
    # preparation  what is the same for members whose rows are prepared alike; empty where nothing can be shared
    # prepared   what the batch at hand was prepared to, where several members are called with it; else None

    def __init__(
        self,
        spec: MemberSpec,
        network: Network,
        preprocessing: Preprocessing | Featuriser,
        *,
        inputs: tuple[int, ...],
        conversion: Conversion,
        views: Views | None = None,
        prepared: bool = False,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Put the parts of a member together.

        inputs        numbers of the dataset's inputs that it is called with, in its order
        conversion    from what the network gives to what the ensemble combines
        views         in which it sees each row; None: as the row is
        prepared      whether the network is one that `execute` has made, in an earlier process
        surroundings  in which it is to be called, as loading it has left them; None: those of all
        """
        super().__init__()
        self.surroundings = surroundings or Surroundings(spec.name)
        self.inputs = inputs
        self._name = spec.name
        self.gradients = spec.gradients
        self.single_rows = SingleRows()
        self.state, self.notes = network.state, network.notes
        self._precision: torch.dtype = getattr(torch, spec.dtype)
        self.dtype: torch.dtype = getattr(torch, spec.output_dtype)
        self._network = network if prepared else replace(network, module=in_precision(spec, network.module))
        self.complex = any(x.is_complex() for x in (*network.module.parameters(), *network.module.buffers()))
        self._choose: Callable[[object], torch.Tensor] = whole if prepared else partial(chosen, spec.name, spec.select)
        self.passes = Passes(self._network, self._choose)
        self.draws: Draws | None = None
        self.replayed: Replayed | None = None
        self.carried: Carried | None = None
        if spec.passes is not None:
            self.draws = Draws(spec.name, spec.passes, self._network.module)
        self._preprocessing = preprocessing
        self.preparation = spec.preparation
        self.prepared: Prepared | None = None
        self._wanted = spec.inputs if spec.features is not None else None
        self._mends = spec.bad_rows == "pass" or any(step.call is not None for step in spec.front.preprocess)
        self.recordable = not spec.functions and not (views or spec.passes or spec.gradients or spec.features)
        self._conversion = conversion
        self._views = views

    @property
    def casts(self) -> tuple[Cast, ...]:
        """What each of `inputs` is cast to before anything else."""
        return self._preprocessing.casts

    @property
    def judged(self) -> tuple[int, ...]:
        """Inputs that must be finite.

        None where the module handles others, or a function of the user's own prepares them, which may mend them.
        """
        return () if self._mends else self.inputs

    @property
    def viewed(self) -> str:
        """Of which views its output is the mean, in words, once a batch was run; empty without."""
        return "" if self._views is None else self._views.described()

    def accepts(self, rows: Sequence[torch.Tensor]) -> bool:
        """Tell whether the preprocessing takes these rows, (rows, *row shape) of each input the member takes.

        Raises PreprocessingFailed where a step of it calls exit().
        """
        try:
            inputs = self._inputs(rows)
            if self._views is not None:
                self._views.try_calls(inputs)
        except PreprocessingFailed as failure:
            if isinstance(failure.error, SystemExit):
                raise
            return False
        except Exception:  # they do not fit a step, or cannot be cast
            return False
        return True

    def forward(self, *rows: torch.Tensor, first: int = 0) -> torch.Tensor:
        """Return the member's output, (batch, *output shape) of `dtype`, as the ensemble combines it.

        Of a member with passes the mean over them, with what it carries beside (`carried`).

        rows   (batch, *row shape) of each input, as it is stored
        first  number of the first of them among all that are scored
        Raises MemberError or UsageError where what the member gives is not what its spec says, PreprocessingFailed
        where a step of its preprocessing raises.
        """
        if self.replayed is not None:
            return self.replayed(rows)[1]
        if self.draws is not None:
            return self.draws.mean(self._drawing(rows, first, self._conversion), self._carried)
        if self._views is not None and self._views.in_space_of_rule:
            return self._returned(rows, partial(self._called, convert=self._conversion))
        values: torch.Tensor = self._conversion(self.given(*rows))
        return values

    def given(self, *rows: torch.Tensor) -> torch.Tensor:
        """Return what the member itself gives, in `dtype`: before any softmax, in its own classes.

        Of a member with passes, in the first of them.
        """
        if self.replayed is not None:
            return self.replayed(rows)[0]
        if self.draws is not None:
            with kept_generators():
                return self._drawing(rows, 0)(0)
        return self._returned(rows).to(self.dtype)

    def _carried(self, values: torch.Tensor) -> Carried | None:
        self.carried = self._conversion.carried(tuple(values.shape[1:]))
        return self.carried

    def widened(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what it returns for a row. shape: of a row of its output."""
        carried = self._conversion.carried(shape) if self.draws is not None else None
        return shape if carried is None else carried.widened(shape)

    def first_look(self, *rows: torch.Tensor) -> tuple[str, ...]:
        """Return what is to be known of the member's passes over these rows; raises what `Draws.require_any` does."""
        if self.draws is None:
            return ()
        return tuple(self.draws.require_any(self._drawing(rows, 0, self._conversion)))

    def _drawing(
        self, rows: Sequence[torch.Tensor], first: int, convert: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> Callable[[int], torch.Tensor]:
        """Return what makes the output of one pass, by its number. The rows are prepared once.

        first    see `forward`
        convert  what is made of what the member itself gives; None: nothing
        """
        draws, prepared = self.draws, dict[int, list[torch.Tensor]]()
        assert draws is not None, "others have no passes"

        def called(some: Sequence[torch.Tensor], number: int) -> torch.Tensor:
            count = len(some[0])
            if count not in prepared:
                draws.seed(first, 0)
                prepared[count] = self._inputs(some)
            draws.seed(first, number)
            return self._run([x.clone() for x in prepared[count]])  # it may write where they lie

        def drawn(number: int) -> torch.Tensor:
            values = self._returned(rows, lambda some: called(some, number)).to(self.dtype)
            return values if convert is None else convert(values)

        return drawn

    def rounds(self, *rows: torch.Tensor) -> bool:
        """Tell whether what the member's network returns changes by being brought to `dtype`."""
        values = self._returned(rows) if self._views is None else self.passes(*self._inputs(rows))
        narrow = values.to(self.dtype)
        return bool(((narrow != values) & ~torch.isnan(values)).any())

    def _returned(self, rows: Sequence[torch.Tensor], called: Called | None = None) -> torch.Tensor:
        """Return what the network gives; of several views the mean. called: gives it, if that is not `_called`."""
        count = len(rows[0])
        called = called or self._called
        values = self.single_rows.run(rows, called) if count == 1 else called(rows)
        return self._checked(values, count)

    def _checked(self, values: torch.Tensor, count: int) -> torch.Tensor:
        """Return what the network gave for so many rows. Raises MemberError where it is not what it has to be."""
        if values.shape[:1] != (count,):
            raise MemberError(
                f"member {self._name} returned {tuple(values.shape)} for {count} rows", "one output row per row"
            )
        if not values.is_floating_point():
            raise MemberError(
                f"member {self._name} returned {shown(values)}, and members give real floats",
                "let its forward end with logits, probabilities or values as floats",
            )
        if self.dtype == torch.float64 and values.dtype != torch.float64:
            raise MemberError(
                f"member {self._name} returned {shown(values)} under precision: float64: it does not compute in it",
                "remove precision: float64, or let its forward keep the dtype of its inputs",
            )
        return values

    def _called(self, rows: Sequence[torch.Tensor], convert: Conversion | None = None) -> torch.Tensor:
        """Return what the network gives for these rows. convert: done to each view before the mean of several."""
        inputs = self._inputs(rows)
        if self._views is not None:
            return self._views.mean(inputs, partial(self._seen, len(rows[0])), convert)
        return self._run(inputs)

    def _run(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        values: torch.Tensor = self.passes(*inputs)
        return values.detach() if self.gradients else values

    def _seen(self, count: int, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what the network gives for one view of so many rows, in `dtype`."""
        return self._checked(self.passes(*inputs), count).to(self.dtype)

    def grad_mode(self) -> AbstractContextManager[None]:
        """Return the mode of autograd to run it in: without any of it, unless it takes gradients in its forward."""
        return torch.enable_grad() if self.gradients else torch.inference_mode()

    def execute(self, prepare: Prepare, rows: Sequence[torch.Tensor]) -> None:
        """Run from now on what `prepare` makes of the network, the choice of its output included.

        rows  (batch, *row shape) of each input: real rows, for which it is prepared
        """
        network = replace(self._network, module=Chosen(self._network.module, self._choose))
        prepared = prepare(network, self._inputs(rows))
        self._network, self._choose = prepared, whole
        self.passes = Passes(prepared, self._choose)

    @property
    def featuriser(self) -> Featuriser | None:
        """What its network is called with the output of; None where that is its own preprocessing."""
        return self._preprocessing if isinstance(self._preprocessing, Featuriser) else None

    def prepare(self, rows: Sequence[torch.Tensor]) -> Values:
        """Return what several members may be called with, from (batch, *row shape) of each input."""
        if self.featuriser is not None:
            return self.featuriser.prepare(rows)
        with self.surroundings.around(), self.grad_mode():
            return {str(i): x for i, x in enumerate(self._preprocessing(*rows))}

    def both(self, *rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the member itself gives, and its output; of one that is `recordable`."""
        return (given := self.given(*rows)), self._conversion(given)

    def _inputs(self, rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the network is called with, which it may write to."""
        to, values = self._precision, None if self.prepared is None else self.prepared.of(rows)
        if values is None and self.featuriser is None:
            return [x.to(to) if x.is_floating_point() else cast(x, to) for x in self._preprocessing(*rows)]
        values = self._preprocessing(*rows) if values is None else values
        taken = [(x, cast(x, to)) for x in taken_of(values, self._wanted, self._name)]
        return [y.clone() if x is y else y for x, y in taken]

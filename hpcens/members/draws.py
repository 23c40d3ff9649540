"""Draws: the outputs of a stochastic member, a pass each, and what is stored of them.

Only its dropout modules are in train mode; batch norms and all else stay as they are evaluated. The random numbers of a
pass come from the run's seed for the member, its name, the first row of the batch and the number of the pass: whoever
runs a batch again, on whatever device of the kind, draws the same.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from hpcens.errors import UsageError
from hpcens.members.carried import Carried
from hpcens.members.surroundings import gpus_are_open, kept_generators
from hpcens.specs import PassesSpec

# Passes that are looked at until one differs: with little dropout most of them may drop nothing of a few rows.
_LOOKS = 16
_FUNCTIONS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


class Draws:
    """Those of one member.

    switched  names of the dropout modules that are in train mode
    left      what looks like dropout and is not, in words
    """

    def __init__(self, name: str, passes: PassesSpec, module: torch.nn.Module) -> None:
        """Put the dropout modules of the network into train mode."""
        self._name = name
        self.passes = passes
        self.switched = _switch_on(module)
        self.left = tuple(_left(module))

    def seed(self, first: int, number: int) -> None:
        """Let torch, numpy and Python draw what belongs to a pass from now on.

        first   row that is the first of the batch
        number  of the pass
        """
        text = f"{self.passes.seed}\0{self._name}\0{first}\0{number}"
        digest = hashlib.sha256(text.encode()).digest()
        seed = int.from_bytes(digest[:8], "big", signed=True)
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: it queues a call for GPUs that are not open
        if gpus_are_open():
            torch.cuda.manual_seed_all(seed)
        np.random.seed(np.frombuffer(digest, "<u4"))
        random.seed(digest)

    def mean(
        self, draw: Callable[[int], torch.Tensor], carried: Callable[[torch.Tensor], Carried | None]
    ) -> torch.Tensor:
        """Return the mean over all passes, computed in float64, with the mean of their entropies where it carries them.

        draw     number of a pass → its output, (batch, *output shape), as the ensemble combines it
        carried  where entropies lie beside such an output
        """
        with kept_generators():
            first = draw(0)
            where = carried(first)
            total, entropy = first.double(), _entropy(first, where)
            for number in range(1, self.passes.count):
                values = draw(number)
                total = total + values
                entropy = entropy + _entropy(values, where)
        count = self.passes.count
        mean = (total / count).to(first.dtype)
        return mean if where is None else torch.cat([mean, (entropy / count).to(first.dtype)], where.axis)

    def require_any(self, draw: Callable[[int], torch.Tensor]) -> Iterator[str]:
        """Yield what is to be known of the draws, from a first look at some.

        draw  see `mean`
        Raises UsageError where passes use no random numbers at all: they are all the same.
        """
        with kept_generators():
            watch = _Watch()
            with watch:
                draw(0)
            self.seed(0, 0)
            before = _generators()
            first = draw(0)
            used = _generators() != before
            same = used and all(torch.equal(draw(number), first) for number in range(1, _LOOKS))
        left = [*self.left, *watch.left]
        also = f"; not switched on: {', '.join(left)}" if left else ""
        if not used:
            raise UsageError(
                f"member {self._name} has passes and is not stochastic: no dropout module of it runs, and it draws from"
                f" none of the generators of torch, numpy and Python{also}",
                "remove members[].passes, or let its forward use torch.nn.Dropout modules with p above 0",
            )
        if same:
            yield f"gives the same in each of {_LOOKS} passes over the first rows"
        if left:
            yield f"its passes leave as it is evaluated, for want of a dropout module: {', '.join(left)}"


def _switch_on(module: torch.nn.Module) -> tuple[str, ...]:
    """Put dropout modules into train mode, with what would pass them by; return their names."""
    switched = []
    for name, part in module.named_modules():
        if isinstance(part, _DropoutNd) and part.p > 0:
            part.training = True
            switched.append(name or type(part).__name__)
        if isinstance(part, torch.nn.TransformerEncoderLayer):
            part.training = True  # of its own mode nothing hangs but a fast path, which knows no dropout
    return tuple(switched)


def _left(module: torch.nn.Module) -> Iterator[str]:
    """Yield what drops values in train mode by itself, without a dropout module."""
    for name, part in module.named_modules():
        if isinstance(part, _DropoutNd):
            continue
        kind = type(part).__name__
        if isinstance(part, torch.nn.RNNBase | torch.nn.MultiheadAttention):
            shares = [part.dropout]
        elif kind.startswith(("Drop", "StochasticDepth")) and not any(part.children()):  # as of timm and torchvision
            shares = [getattr(part, key, None) for key in ("p", "drop_prob")]
        else:
            continue
        if (share := next((of for of in shares if isinstance(of, float) and of > 0), None)) is not None:
            yield f"{name or 'the module'} ({kind}, {share:g})"


class _Watch(TorchFunctionMode):
    """Sees calls of functional dropout that are switched off. left: which, in words."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _FUNCTIONS and func is getattr(torch.nn.functional, name, None):
            share = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            training = kwargs.get("training", args[2] if len(args) > 2 else True)
            words = f"F.{name} in its forward (p {share:g})"
            if not training and share > 0 and words not in self.left:
                self.left.append(words)
        return func(*args, **kwargs)


def _generators() -> tuple[object, ...]:
    """Return where all generators stand."""
    gpus = torch.cuda.get_rng_state_all() if gpus_are_open() else []
    _, keys, *rest = np.random.get_state()
    states = tuple(state.numpy().tobytes() for state in (torch.get_rng_state(), *gpus))
    return (*states, np.asarray(keys).tobytes(), tuple(rest), random.getstate())


def _entropy(values: torch.Tensor, where: Carried | None) -> torch.Tensor:
    """Return the entropy of probabilities in nats, in float64, with an axis for the classes; of none nothing.

    What rounding has left just below 0 or above 1 counts as that.
    """
    if where is None:
        return values.new_zeros(0, dtype=torch.float64)
    p = values.double().clamp(min=0)
    entropy: torch.Tensor = torch.special.entr(p)
    return entropy + torch.special.entr((1 - p).clamp(min=0)) if where.labels else entropy.sum(where.axis, keepdim=True)

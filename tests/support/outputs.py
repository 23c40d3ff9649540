"""Members' outputs as devices send them."""

from pathlib import Path

import numpy as np

from hpcens.specs import MemberSpec

CLASSES = [(4,), (5, 3), (2, 3, 4)]


def members(weights, output="probabilities"):
    return [
        MemberSpec(name=f"m{i}", factory="a:b", weights=Path("/gone"), weight=weight, output=output)
        for i, weight in enumerate(weights)
    ]


def softmax(values):
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def outputs(seed, count, rows, shape, space):
    """Members' outputs as devices send them: float32."""
    values = np.random.default_rng(seed).normal(0, 3, (count, rows, *shape))
    return (softmax(values) if space == "probabilities" else values).astype(np.float32)


EVERYTHING = (
    "prediction",
    "label",
    "top-2",
    "members",
    "variance",
    "entropy",
    "expected_entropy",
    "mutual_information",
    "disagreement",
)

"""Rules as users write them: good ones, and ones that misbehave in every way they know."""

import os
import sys
import threading

import numpy as np


def mean(stack, names):
    print(f"combining {len(names)} members")
    return stack.mean(axis=0, dtype=np.float64)


def confident(stack, names):
    """The member whose largest output is the largest; what it does to its stack is nobody's business."""
    stack[:] = stack[
        np.argsort(stack.max(axis=-1), axis=0)[..., None],
        np.arange(stack.shape[1])[None, :, None],
        np.arange(stack.shape[2]),
    ]
    return stack[-1]


def largest(stack, names):
    return stack.max(axis=0)


def raising(stack, names):
    raise ValueError("no such rule of mine")


def leaving(stack, names):
    sys.exit(3)


def short(stack, names):
    return stack.mean(axis=0)[:, :1]


def text(stack, names):
    return "mean"


def nan(stack, names):
    return np.full(stack.shape[1:], np.nan)


def nan_in_earnest(stack, names):
    """NaN for real rows only: a trial of three does not show it."""
    return stack.mean(axis=0) if stack.shape[1] == 3 else nan(stack, names)


def killing(stack, names):
    os._exit(9)


def killing_in_earnest(stack, names):
    return stack.mean(axis=0) if stack.shape[1] == 3 else killing(stack, names)


def hanging(stack, names):
    threading.Event().wait()


def leaving_a_thread(stack, names):
    threading.Thread(target=threading.Event().wait).start()
    return stack.mean(axis=0)


not_callable = 3


def by_name(stack, names):
    """Weigh a member by the number in its name."""
    assert len(stack) == len(names)
    weights = [1.0 + int(name[1:]) for name in names]
    return np.average(stack.astype(np.float64), axis=0, weights=weights)

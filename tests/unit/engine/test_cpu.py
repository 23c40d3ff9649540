"""The CPU as a device."""

import numpy as np
import pytest
import torch

from hpcens.engine.cpu import CpuHardware

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("ask", [lambda: torch.empty(1 << 50), lambda: torch.zeros(1 << 45), lambda: np.empty(1 << 50)])
def test_the_cpu_knows_the_words_for_no_memory(ask):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        ask()
    assert CpuHardware(1).out_of_memory(caught.value)

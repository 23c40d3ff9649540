"""Devices: which node each belongs to, and how they are read back."""

from dataclasses import asdict

import pytest

from hpcens.vocabulary import Device, cpu_devices
from hpcens.vocabulary.devices import device_from_dict


@pytest.mark.parametrize("host", ["n0", "rack/n0", ""])
def test_a_device_is_read_back_as_it_was_written(host):
    [device] = cpu_devices(host, "model", count=1, cores=2, memory=1 << 30)
    assert device_from_dict(asdict(device)) == device


def test_a_device_that_was_written_without_its_host_has_it_from_its_name():
    written = {"name": "rack/n0/cuda1", "family": "cuda", "kind": "cuda A100", "memory": 1, "cores": 1, "index": 1}
    assert device_from_dict(written) == Device("rack/n0/cuda1", "cuda", "cuda A100", 1, 1, 1, "rack/n0")


def test_a_device_of_another_node_is_named_after_it():
    assert Device("n0/cuda1", "cuda", "k", 1, host="n0").on("n1") == Device("n1/cuda1", "cuda", "k", 1, host="n1")
    assert Device("cuda1", "cuda", "k", 1).on("n1") == Device("n1/cuda1", "cuda", "k", 1, host="n1")

"""CUDA, stood in for by a fake that runs out on command: pinned buffers, staging, and words for no memory."""

import os
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import Cuda, hosting, net, only, plainly, rows

from hpcens.engine.hardware import open_hardware
from hpcens.errors import DeviceOutOfMemory
from hpcens.vocabulary import Device, Predict

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "words", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"]
)
def test_cuda_libraries_and_pinned_memory_say_it_their_own_way(words):
    assert Cuda().hardware.out_of_memory(RuntimeError(words))


def test_an_index_is_that_of_nvidia_smi(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    asked = []
    monkeypatch.setattr("hpcens.engine.cuda.CudaHardware", asked.append)
    open_hardware(Device("n/cuda1", "cuda", "cuda A100", 1, 1, 1))
    assert asked == [torch.device("cuda", 1)] and os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


class TestPinnedBuffers:
    def test_one_is_used_again_only_once_its_copy_is_through(self):
        device = Cuda()
        stage, receive, api = device.hardware.stage, device.hardware.receive, device.api
        first, second = stage(rows(4, seed=1)), stage(rows(4, seed=2))
        assert len(api.pinned) == 2
        api.events[1].finish()
        third = stage(rows(4, seed=3))
        assert len(api.pinned) == 2, "the second buffer was free"
        fourth = stage(rows(4, seed=4))
        assert len(api.pinned) == 3, "none was free"
        for seed, staged in ((4, fourth), (1, first), (3, third), (2, second)):
            assert (receive(staged).numpy() == rows(4, seed=seed)).all()

    def test_rows_are_not_there_before_their_copy_was_waited_for(self):
        device = Cuda()
        staged = device.hardware.stage(rows(4))
        assert torch.isnan(staged.rows).all()
        assert (device.hardware.receive(staged).numpy() == rows(4)).all()

    def test_no_more_than_one_over_those_ahead(self):
        for ahead in (1, 2, 3):
            device = Cuda()
            engine = hosting(device, a=net())
            tasks = [Predict(segment, ("a",), (rows(6 if segment < 11 else 2, seed=segment),)) for segment in range(12)]
            for task in tasks[:ahead]:
                engine.stage(task)
            for i, task in enumerate(tasks):
                for later in tasks[i + ahead : i + ahead + 1]:
                    engine.stage(later)
                assert only(engine, task).values.tobytes() == plainly(net(), task.rows[0], 8)
            assert len(device.api.pinned) == ahead + 1

    @settings(deadline=None, max_examples=30)
    @given(st.data())
    def test_whenever_copies_end_everyone_gets_their_own_rows(self, data):
        device = Cuda()
        waiting = []
        for seed in range(data.draw(st.integers(1, 8))):
            x = rows(data.draw(st.integers(1, 5)), seed=seed)
            waiting.append((x, device.hardware.stage(x)))
            for event in data.draw(st.lists(st.sampled_from(device.api.events), max_size=2)):
                event.finish()
            if data.draw(st.booleans()):
                x, staged = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
                assert (device.hardware.receive(staged).numpy() == x).all()
        for x, staged in waiting:
            assert (device.hardware.receive(staged).numpy() == x).all()

    def test_one_whose_copy_found_no_room_is_kept(self):
        device = Cuda(room=0)
        for _ in range(3):
            with pytest.raises(device.api.OutOfMemoryError):
                device.hardware.stage(rows(4))
        device.api.room = None
        assert (device.hardware.receive(device.hardware.stage(rows(4))).numpy() == rows(4)).all()
        assert len(device.api.pinned) == 1

    def test_two_threads_never_get_the_same_one(self):
        device = Cuda()
        wrong = []

        def work(seed):
            for i in range(40):
                x = rows(2, seed=100 * seed + i)
                if not (device.hardware.receive(device.hardware.stage(x)).numpy() == x).all():
                    wrong.append(x)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == [] and len(device.api.pinned) <= 3


class TestStagingRunsOut:
    size = rows(4).nbytes

    def tasks(self, count):
        return [Predict(segment, ("a",), (rows(4, seed=segment),)) for segment in range(count)]

    def test_ahead_it_is_made_up_for_at_its_turn(self):
        device = Cuda(room=self.size)
        engine = hosting(device, a=net())
        tasks = self.tasks(3)
        for task in tasks:
            engine.stage(task)
        assert device.api.used == self.size
        for task in tasks:
            assert only(engine, task).values.tobytes() == plainly(net(), task.rows[0], 8)

    def test_at_its_turn_what_is_ahead_gives_way(self):
        device = Cuda(room=2 * self.size)
        engine = hosting(device, a=net())
        tasks = self.tasks(3)
        engine.stage(tasks[1])
        engine.stage(tasks[2])
        for task in tasks:
            assert only(engine, task).values.tobytes() == plainly(net(), task.rows[0], 8)
        assert device.api.highest <= 2 * self.size

    def test_rows_that_never_fit_are_told(self):
        engine = hosting(Cuda(room=self.size - 1), a=net())
        [task] = self.tasks(1)
        with pytest.raises(DeviceOutOfMemory, match="segment 0: its 4 rows do not fit"):
            only(engine, task)

    def test_nothing_is_held_of_a_segment_that_is_done(self):
        device = Cuda()
        engine = hosting(device, a=net())
        for task in self.tasks(3):
            only(engine, task)
        assert device.api.used == 0

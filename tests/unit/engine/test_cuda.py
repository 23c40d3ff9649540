"""CUDA, stood in for by a fake that runs out on command: pinned buffers, staging, and words for no memory."""

import os
import re
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import HERE, Calls, Cuda, hosting, net, only, plainly, rows
from support.fake_cuda import FakeCuda

from hpcens import processes
from hpcens.engine import hardware as hardware_module
from hpcens.engine.cuda import CudaHardware
from hpcens.engine.hardware import open_hardware
from hpcens.engine.pinning import index_of_own, pin
from hpcens.errors import DeviceFailed, DeviceOutOfMemory, HpcensError, MemberError
from hpcens.vocabulary import Device, Predict

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "GET was unable to find an engine to execute this computation",
        "FIND was unable to find an engine to execute this computation",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "CUDA driver error: out of memory",
        "Triton Error [CUDA]: out of memory",
        "HIP out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_cuda_libraries_and_pinned_memory_say_it_their_own_way(words):
    hardware = Cuda().hardware
    assert hardware.out_of_memory(RuntimeError(words)) and hardware.failure(RuntimeError(words)) == ""


@pytest.mark.parametrize(("capability", "lacking"), [((9, 0), ()), ((8, 0), ()), ((7, 5), ("tf32", "bfloat16"))])
def test_a_gpu_says_in_what_it_does_not_compute(capability, lacking):
    card = Cuda()
    card.api.capability = capability
    precisions = ("float32", "tf32", "bfloat16", "float16", "float64")
    assert tuple(precision for precision in precisions if card.hardware.lacks(precision)) == lacking
    assert not lacking or "of compute capability 8.0 and more, and this GPU has 7.5" in card.hardware.lacks("tf32")


def test_torch_for_amd_has_bfloat16_and_no_tf32(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert Cuda().hardware.lacks("bfloat16") == "" and "AMD" in Cuda().hardware.lacks("tf32")


def unpinned(monkeypatch, names=None):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setattr(hardware_module, "_FREE_BEFORE", {})
    if names is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)


class TestWhichGpu:
    DEVICE = Device("n/cuda1", "cuda", "cuda A100", 8 << 30, 1, 1, "n")

    def test_an_index_is_that_of_nvidia_smi(self, monkeypatch):
        unpinned(monkeypatch)
        asked = []
        monkeypatch.setattr("hpcens.engine.cuda.CudaHardware", lambda device, **more: asked.append((device, more)))
        monkeypatch.setattr("hpcens.engine.cuda.settle", lambda: None)
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
        open_hardware(self.DEVICE)
        [(device, more)] = asked
        assert device == torch.device("cuda", 1) and os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert more == {"name": "GPU 1 (A100) of n", "free_before": None, "memory": 8 << 30}
        assert "NVIDIA_TF32_OVERRIDE" not in os.environ, "it would give float32 members TF32"

    def test_a_rank_that_is_pinned_sees_its_own_as_the_first(self, monkeypatch):
        for name in ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF"):
            monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
        monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
        pin("GPU-bb22")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-bb22"
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert "expandable_segments:True" in os.environ["PYTORCH_CUDA_ALLOC_CONF"]
        assert index_of_own(FakeCuda(uuids=("bb22-0000",)), 3) == 0
        # an MPI had started CUDA before: all of them are shown, in an order of its own
        assert index_of_own(FakeCuda(uuids=("aa11", "cc33", "bb22")), 0) == 2
        with pytest.raises(HpcensError, match="was given GPU GPU-bb22, and CUDA shows it aa11, cc33") as caught:
            index_of_own(FakeCuda(uuids=("aa11", "cc33")), 0)
        assert "MPIR_CVAR_ENABLE_GPU=0" in caught.value.remedy
        pin("MIG-dd44")  # whose GPU's name it may have
        assert index_of_own(FakeCuda(uuids=("aa11",)), 5) == 0
        pin(None)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and index_of_own(FakeCuda(uuids=()), 4) == 4

    def test_one_of_amds_is_named_by_its_place_among_those_shown(self, monkeypatch):
        monkeypatch.setenv("HIP_VISIBLE_DEVICES", "3,5")
        pin("torch:1")
        assert os.environ["HIP_VISIBLE_DEVICES"] == "5"
        monkeypatch.delenv("HIP_VISIBLE_DEVICES")
        pin("torch:1")
        assert os.environ["HIP_VISIBLE_DEVICES"] == "1"

    def test_every_way_in_takes_the_thread_to_the_gpu(self):
        """Story: members were loaded in a new thread, whose GPU is the first: eight ranks filled that one."""
        device = Cuda()

        def alone(task):
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(task).result()

        for way in (
            lambda: device.hardware.place(net()),
            lambda: device.hardware.stage(rows(2)),
            device.hardware.release,
            device.hardware.enter,
        ):
            alone(lambda way=way: (way(), device.api.current_stream()))


class TestMemory:
    def test_is_what_the_card_counts_not_what_the_allocator_says(self):
        device = Cuda()
        assert device.hardware.resident() == device.api.context
        staged = device.hardware.stage(rows(4))
        device.api.raw += 300 << 20  # a compiled package's weights, a library's handle
        assert device.hardware.resident() == device.api.context + rows(4).nbytes + (300 << 20)
        device.hardware.start_peak()
        more = device.hardware.stage(rows(6))
        del staged, more
        assert device.hardware.peak() == device.api.context + (300 << 20) + rows(4).nbytes + rows(6).nbytes

    def test_others_on_the_card_are_none_of_its_own(self):
        api = FakeCuda()
        api.others = 4 << 30
        assert CudaHardware(HERE, api, api.pin, free_before=12 << 30).resident() == api.context

    def test_where_nobody_knows_what_was_free_a_context_is_counted_that_is_large_enough(self):
        api = FakeCuda()
        assert CudaHardware(HERE, api, api.pin).resident() >= 1 << 30

    def test_no_more_is_taken_than_was_given(self):
        """devices.cuda.memory, of which the context is a part."""
        device = Cuda(memory=1 << 30)
        assert device.api.fraction * device.api.total == (1 << 30) - device.api.context
        with pytest.raises(device.api.OutOfMemoryError):
            device.hardware.stage(np.empty((1, 600 << 20), np.uint8))
        assert Cuda().api.fraction == 1.0 and Cuda(memory=1).api.fraction == 0.0


LOST = [
    "CUDA error: uncorrectable ECC error encountered\nCompile with TORCH_USE_CUDA_DSA",
    "CUDA error: unspecified launch failure",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: unknown error",
    "Triton Error [CUDA]: unspecified launch failure",
]
NETWORK = [
    "CUDA error: device-side assert triggered",
    "CUDA error: no kernel image is available for execution on the device",
    "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
]


class TestFailure:
    @pytest.mark.parametrize("words", LOST)
    def test_of_the_card_ends_the_run_so_that_it_can_go_on_elsewhere(self, words):
        def fails(x):
            raise RuntimeError(words)

        device = Cuda()
        device.hardware.name = "GPU GPU-aa11 (A100) of n7"
        with pytest.raises(
            DeviceFailed, match=f"GPU GPU-aa11 .A100. of n7 failed: {re.escape(words.splitlines()[0])}"
        ) as e:
            only(hosting(device, a=Calls(fails)), Predict(0, ("a",), (rows(4),)))
        assert e.value.exit_code == 75 and "Xid" in e.value.remedy
        assert e.value.node == (processes.node() if "ECC" in words else ""), "the others may be a kernel's own fault"

    @pytest.mark.parametrize("words", NETWORK)
    def test_of_the_network_is_the_networks(self, words):
        def fails(x):
            raise RuntimeError(words)

        with pytest.raises(MemberError, match="member a raised"):
            only(hosting(Cuda(), a=Calls(fails)), Predict(0, ("a",), (rows(4),)))

    def test_may_be_told_only_where_the_outputs_are_waited_for(self, monkeypatch):
        device = Cuda()
        engine = hosting(device, a=net())

        def lost(event):
            raise RuntimeError("CUDA error: GPU is lost")

        monkeypatch.setattr("support.fake_cuda.Event.synchronize", lost)
        with pytest.raises(DeviceFailed, match="GPU is lost"):
            engine.run("a", (torch.from_numpy(rows(4)),))


class TestOutputs:
    def test_the_next_member_is_begun_before_the_last_is_waited_for(self):
        device, begun = Cuda(), []
        members = {name: Calls(lambda x, name=name: (begun.append(name), x.flatten(1))[1]) for name in "abc"}
        answers = hosting(device, **members).predict(Predict(0, tuple("abc"), (rows(4),)))
        assert [(next(answers).member, "".join(begun)) for _ in "abc"] == [("a", "ab"), ("b", "abc"), ("c", "abc")]

    def test_each_batch_goes_to_its_place_at_once(self):
        """Story: outputs of a segment piled up on the card, and dense ones ended the run at batch 1."""
        device, kept = Cuda(), []

        def dense(x):
            kept.append(weakref.ref(made := x.flatten(1) * 2))
            return made

        x = rows(12)
        answer = only(hosting(device, batch=2, a=Calls(dense)), Predict(0, ("a",), (x,)))
        assert (answer.values == 2 * x.reshape(12, -1)).all()
        room = device.hardware.room((12, 32), torch.float32)
        assert not room.values.is_cuda and all(of() is None for of in kept)

    def test_what_a_member_writes_to_again_was_copied_before(self):
        buffer = torch.empty(4, 32)

        def reuses(x):
            return buffer[: len(x)].copy_(x.flatten(1))

        x = rows(12)
        answer = only(hosting(Cuda(), batch=4, a=Calls(reuses)), Predict(0, ("a",), (x,)))
        assert (answer.values == x.reshape(12, -1)).all()


class TestRunningOut:
    def test_what_is_ahead_gives_way_before_a_batch_is_halved(self):
        """Story: whether a batch was halved hung on whether the next segment had come already, and so did its bytes."""
        for ahead in (0, 1, 2):
            device = Cuda()
            calls = []

            def scarce(x, device=device, calls=calls, beside=6 * 128):
                calls.append(len(x))
                if device.api.used > beside:
                    device.exhaust()
                return x.flatten(1)

            engine = hosting(device, batch=4, a=Calls(scarce))
            tasks = [Predict(segment, ("a",), (rows(6, seed=segment),)) for segment in range(3)]
            for task in tasks[1 : 1 + ahead]:
                engine.stage(task)
            answers = [only(engine, task) for task in tasks]
            assert [answer.batch for answer in answers] == [4, 4, 4] and dict(engine.ceilings) == {}

    def test_no_more_than_two_segments_wait_on_the_card_however_many_readers_send(self):
        device = Cuda()
        engine = hosting(device, a=net())
        tasks = [Predict(segment, ("a",), (rows(6, seed=segment),)) for segment in range(9)]
        for task in tasks:
            engine.stage(task)
        assert device.api.used == 2 * rows(6).nbytes
        for task in tasks:
            assert only(engine, task).values.tobytes() == plainly(net(), task.rows[0], 8)
        assert device.api.highest <= 3 * rows(6).nbytes

    def test_members_that_score_other_rows_of_one_segment_get_their_own(self):
        engine = hosting(Cuda(), a=net(), b=net())
        tasks = [Predict(0, (member,), (rows(6, seed=seed),)) for seed, member in enumerate("ab")]
        for task in tasks:
            engine.stage(task)
        for task in tasks:
            assert only(engine, task).values.tobytes() == plainly(net(), task.rows[0], 8)


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
            assert len(device.api.pinned) == min(ahead, 2) + 1

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

    def test_one_made_in_inference_mode_is_used_outside_of_it(self):
        """Story: members are prepared in inference mode, and the first rows of the run could not be staged."""
        device = Cuda()
        with torch.inference_mode():
            device.hardware.receive(device.hardware.stage(rows(4)))
        assert (device.hardware.receive(device.hardware.stage(rows(4, seed=2))).numpy() == rows(4, seed=2)).all()

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


class TestRegisteredMemory:
    size = rows(4).nbytes

    def slots(self, device, count=4):
        memory = np.zeros(count * self.size, np.uint8)
        return memory, [memory[i * self.size :][: self.size].view(np.float32).reshape(4, 2, 4, 4) for i in range(count)]

    def test_rows_go_to_the_card_from_where_they_lie(self):
        """One copy on the host less: no pinned buffer is written, and nobody waits."""
        device = Cuda()
        memory, slots = self.slots(device)
        assert device.hardware.register([memory]) == "" and device.api.registered == {memory.ctypes.data: memory.nbytes}
        for seed, slot in enumerate(slots):
            slot[...] = rows(4, seed=seed)
        staged = [device.hardware.stage(slot) for slot in slots]
        for seed in (2, 0, 3, 1):
            assert (device.hardware.receive(staged[seed]).numpy() == rows(4, seed=seed)).all()
        assert device.api.pinned == [] and device.api.waited == 0
        part = device.hardware.stage(slots[1][1:3])  # rows of a segment that only some members score
        assert (device.hardware.receive(part).numpy() == slots[1][1:3]).all() and device.api.pinned == []

    def test_what_is_written_before_the_copy_is_through_is_sent(self):
        """Why a slot is held until then."""
        device = Cuda()
        memory, slots = self.slots(device)
        device.hardware.register([memory])
        slots[0][...] = rows(4)
        staged = device.hardware.stage(slots[0])
        slots[0][...] = 7
        assert (device.hardware.receive(staged) == 7).all()

    def test_other_memory_and_rows_that_are_not_one_piece_are_staged(self):
        device = Cuda()
        memory, slots = self.slots(device)
        device.hardware.register([memory])
        slots[0][...] = rows(4)
        for array in (rows(4), slots[0][:, :1], slots[0][::2]):
            assert (device.hardware.receive(device.hardware.stage(array)).numpy() == array).all()
        assert len(device.api.pinned) > 0 and device.api.waited == 0

    def test_where_it_cannot_be_registered_rows_are_staged_and_the_reason_is_told(self):
        device = Cuda()
        memory, slots = self.slots(device)
        device.api.registers = 0
        assert device.hardware.register([memory]) == (
            "cudaHostRegister: OS call failed or operation not supported on this OS"
        )
        slots[0][...] = rows(4)
        assert (device.hardware.receive(device.hardware.stage(slots[0])).numpy() == rows(4)).all()
        assert len(device.api.pinned) == 1 and device.api.waited == 0 and device.api.registered == {}

    def test_of_several_pieces_all_are_registered_or_none(self, monkeypatch):
        device = Cuda()
        pieces = [self.slots(device)[0] for _ in range(3)]
        assert device.hardware.register(pieces) == "" and len(device.api.registered) == 3
        device.hardware.register(pieces[:1])
        assert list(device.api.registered) == [pieces[0].ctypes.data], "those of the start before were kept"
        device.api.registers = 2
        assert "OS call failed" in device.hardware.register(pieces) and device.api.registered == {}
        monkeypatch.setattr(device.api, "cudart", lambda: None)  # a torch without that function
        assert device.hardware.register(pieces).startswith("cudaHostRegister: 'NoneType'")

    def test_it_is_let_go_of_in_the_end_and_its_memory_may_go(self):
        device = Cuda()
        memory = np.zeros(self.size, np.uint8)
        device.hardware.register([memory])
        alive = weakref.ref(memory)
        device.hardware.unregister()
        device.hardware.unregister()
        del memory
        assert device.api.registered == {} and alive() is None

    def test_a_gpu_that_is_lost_lets_go_of_it_too(self, monkeypatch):
        device = Cuda()
        device.hardware.register([self.slots(device)[0]])

        def lost():
            raise RuntimeError("CUDA error: GPU is lost")

        monkeypatch.setattr(device.api, "synchronize", lost)
        device.hardware.unregister()
        assert device.api.registered == {}

    def test_running_out_amid_leaves_the_slot_to_be_sent_again(self):
        device = Cuda(room=self.size)
        memory, slots = self.slots(device)
        device.hardware.register([memory])
        slots[0][...], slots[1][...] = rows(4, seed=1), rows(4, seed=2)
        engine = hosting(device, a=net())
        tasks = [Predict(segment, ("a",), (slots[segment],)) for segment in range(2)]
        engine.stage(tasks[1])
        engine.stage(tasks[0])
        for segment, task in enumerate(tasks):
            assert only(engine, task).values.tobytes() == plainly(net(), rows(4, seed=segment + 1), 8)
        assert device.api.pinned == [] and device.api.waited == 0


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

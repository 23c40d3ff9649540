"""The engine on every family of devices: one contract. CUDA is stood in for by a fake that runs out on command."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import Calls, CallsMany, Counting, Cpu, Cuda, forward, hosting, net, only, plainly, refuse, rows
from support.fake_cuda import Limited
from torch import nn

from hpcens.engine.engine import Engine
from hpcens.errors import DeviceOutOfMemory, MemberError
from hpcens.specs import NormalizeSpec, StepSpec
from hpcens.transports.ring import make_ring
from hpcens.vocabulary import Bad, Finish, Part, Predict

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("family", [Cpu, Cuda])
class TestContract:
    def test_predicts_what_the_module_gives_in_the_same_batches(self, family):
        member = Limited(net())
        x = rows(21)
        answer = only(hosting(family(), a=member), Predict(5, ("a",), (x,)))
        assert (answer.segment, answer.member, answer.batch, answer.values.dtype) == (5, "a", 8, np.float32)
        assert answer.values.tobytes() == plainly(net(), x, 8)
        assert member.seen == [8, 8, 5]

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64, np.float16, np.float64, np.bool_])
    def test_rows_of_any_type_are_cast_on_the_device(self, family, dtype):
        x = rows(6, dtype)
        device = family()
        assert device.hardware.stage(x) is not None
        assert device.hardware.receive(device.hardware.stage(x)).dtype == torch.from_numpy(x[:0]).dtype
        answer = only(hosting(device, batch=4, a=net()), Predict(0, ("a",), (x,)))
        assert answer.values.tobytes() == plainly(net(), x, 4)

    @pytest.mark.parametrize("output", ["logits", "probabilities", "values"])
    @pytest.mark.parametrize("space", ["logits", "probabilities", "values"])
    def test_softmax_takes_logits_into_probabilities_and_nothing_else(self, family, output, space):
        x = rows(5)
        answer = only(hosting(family(), spec={"output": output}, space=space, a=net()), Predict(0, ("a",), (x,)))
        softmax = (output, space) == ("logits", "probabilities")
        assert answer.values.tobytes() == plainly(net(), x, 8, softmax=softmax)

    def test_members_share_one_staging_and_answer_in_the_order_asked(self, family):
        device = family()
        device.hardware = Counting(device.hardware)
        engine = hosting(device, a=net(1), b=net(2), c=net(3))
        x = rows(9)
        answers = list(engine.predict(Predict(0, ("c", "a", "b"), (x,))))
        assert [answer.member for answer in answers] == ["c", "a", "b"]
        assert [a.values.tobytes() for a in answers] == [plainly(net(seed), x, 8) for seed in (3, 1, 2)]
        assert device.hardware.stagings == 1

    @pytest.mark.parametrize(("inputs", "takes"), [(None, [0, 1, 2]), (["b"], [1]), (["c", "a"], [2, 0])])
    def test_a_member_is_called_with_the_inputs_it_takes_in_its_order(self, family, inputs, takes):
        given = rows(9), rows(9, seed=1)[:, 0], (rows(9, seed=2)[:, 0, 0] * 20).astype(np.int16)
        member = CallsMany(lambda *x: torch.cat([part.flatten(1) for part in x], 1))
        engine = hosting(family(), batch=4, names=["a", "b", "c"], spec={"inputs": inputs}, a=member)
        task = Predict(0, ("a",), given)
        engine.stage(task)
        values = only(engine, task).values
        assert (values == np.concatenate([given[i].reshape(9, -1) for i in takes], 1)).all()

    def test_what_was_staged_ahead_is_used_once(self, family):
        device = family()
        device.hardware = Counting(device.hardware)
        engine = hosting(device, a=net())
        tasks = [Predict(segment, ("a",), (rows(5, seed=segment),)) for segment in range(3)]
        for task in tasks:
            engine.stage(task)
        assert [only(engine, t).values.tobytes() for t in tasks] == [plainly(net(), t.rows[0], 8) for t in tasks]
        assert device.hardware.stagings == 3
        again = replace(tasks[0], rows=(rows(5, seed=9),))
        assert only(engine, again).values.tobytes() == plainly(net(), again.rows[0], 8)
        assert device.hardware.stagings == 4

    def test_only_rows_are_staged(self, family):
        device = family()
        device.hardware = Counting(device.hardware)
        hosting(device).stage(Finish())
        assert device.hardware.stagings == 0

    def test_parts_of_a_segment_give_the_bytes_of_the_whole(self, family):
        """Story: both parts of a segment come to one device, and are staged before either is computed."""
        engine, x = hosting(family(), a=Limited(net())), rows(21)
        x[18] = np.nan
        parts = [Predict(5, ("a",), (x[start:stop],), part=Part(start, 21)) for start, stop in ((0, 16), (16, 21))]
        for task in parts:
            engine.stage(task)
        first, second = (only(engine, task) for task in parts)
        whole = only(engine, Predict(5, ("a",), (x,)))
        assert first.values.tobytes() + second.values.tobytes() == whole.values.tobytes()
        assert (first.part, second.part) == (Part(0, 21), Part(16, 21))
        assert (first.bad, second.bad, whole.bad) == ((), (Bad("input", (2,)),), (Bad("input", (18,)),))

    def test_loaded_staged_and_computed_in_three_threads(self, family):
        def alone(task):
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(task).result()

        engine = alone(lambda: hosting(family(), a=net()))
        task = Predict(0, ("a",), (rows(9),))
        alone(lambda: engine.stage(task))
        assert alone(lambda: only(engine, task)).values.tobytes() == plainly(net(), task.rows[0], 8)

    @pytest.mark.parametrize("registered", [True, False])
    def test_a_slot_is_another_segments_as_soon_as_its_own_is_predicted(self, family, registered):
        """Rows of a slot are read for the last time before the last answer: through halved batches, and ahead."""
        device, size = family(), rows(9).nbytes
        ring = make_ring(3, size, 1 << 20)
        if registered:
            assert device.hardware.register([ring.memory]) == ""
        engine = hosting(device, a=Limited(net(), 4, device.exhaust), b=net(1))

        def read(segment):
            slot = ring.slot(segment % 3)[:size].view(np.float32).reshape(9, 2, 4, 4)
            slot[...] = rows(9, seed=segment)
            task = Predict(segment, ("a", "b"), (slot,))
            engine.stage(task)
            return task

        tasks = [read(segment) for segment in range(3)]
        for segment in range(12):
            a, b = engine.predict(tasks[segment])
            tasks.append(read(segment + 3))  # into the slot that was let go of now
            assert a.values.tobytes() == plainly(net(), rows(9, seed=segment), 4)
            assert b.values.tobytes() == plainly(net(1), rows(9, seed=segment), 8)
        device.hardware.unregister()

    def test_a_member_that_changes_its_input_changes_nobody_elses(self, family):
        device = family()
        spoils = Limited(nn.Sequential(nn.ReLU(inplace=True), Calls(lambda x: x.mul_(0).flatten(1))), 4, device.exhaust)
        late = Calls(lambda x: x.neg_().flatten(1) if len(x) <= 4 else (x.neg_(), device.exhaust()))
        engine = hosting(device, spoils=spoils, late=late, a=net())
        x = rows(9)
        before = x.copy()
        answers = {a.member: a.values for a in engine.predict(Predict(0, ("spoils", "late", "a"), (x,)))}
        assert answers["a"].tobytes() == plainly(net(), before, 8)
        assert (answers["late"] == -before.reshape(9, -1)).all()
        assert (x == before).all()

    @pytest.mark.parametrize(
        ("module", "said"),
        [
            (Calls(refuse), r"member bad raised KeyError: 'lost' \(rows 0–3 of a segment, input \(4, 2, 4, 4\)\)"),
            (Calls(lambda x: exit(3)), r"member bad raised SystemExit: exit\(3\) was called \(rows 0–3"),
            (Calls(lambda x: x[1:].flatten(1)), r"member bad returned \(3, 32\) for 4 rows"),
            (Calls(lambda x: x.sum()), r"member bad returned \(\) for 4 rows"),
            (Calls(lambda x: x.argmax(1)), r"member bad returned int64 \(4, 4, 4\), and members give real floats"),
            (Calls(lambda x: x.to(torch.complex64)), r"member bad returned complex64 .*real floats"),
            (Calls(lambda x: [1, "b"]), "member bad returned list of 0: int, 1: str, not one tensor"),
            (Calls(lambda x: None), "member bad returned NoneType, not one tensor"),
            (Calls(lambda x: (x, x)), r"(?s)member bad returned tuple of 0: float32 \(4, 2, 4, 4\), 1: .*select: 0"),
        ],
    )
    def test_a_member_that_fails_is_named(self, family, module, said):
        with pytest.raises(MemberError, match=said):
            list(hosting(family(), batch=4, good=net(), bad=module).predict(Predict(0, ("good", "bad"), (rows(8),))))

    def test_float64_is_rounded_to_float32(self, family):
        x = rows(5)
        answer = only(hosting(family(), a=Calls(lambda x: x.double().flatten(1) / 3)), Predict(0, ("a",), (x,)))
        assert answer.values.tobytes() == (x.reshape(5, -1).astype(np.float64) / 3).astype(np.float32).tobytes()

    @pytest.mark.parametrize(
        ("steps", "plain"),
        [
            ([StepSpec(scale=0.5)], lambda x: x * 0.5),
            ([StepSpec(normalize=NormalizeSpec(mean=(1.0, 2.0), std=(0.5, 4.0)))], "normalized"),
            ([StepSpec(layout="NCHW->NHWC")], lambda x: x.permute(0, 2, 3, 1)),
            ([StepSpec(crop=(2, 3)), StepSpec(cast="float64")], lambda x: x[..., 1:3, 0:3]),
        ],
    )
    def test_rows_are_prepared_on_the_device_and_shared_unchanged(self, family, steps, plain):
        x = rows(9, np.uint8)
        if plain == "normalized":
            mean, std = (torch.tensor(of).reshape(2, 1, 1) for of in ([1.0, 2.0], [0.5, 4.0]))
            plain = lambda x: (x - mean) / std  # noqa: E731
        device = family()
        spoiling = Calls(lambda x: x.mul_(2).flatten(1))
        engine = hosting(device, batch=4, spec={"preprocess": tuple(steps)}, a=spoiling)
        engine.host("plain", forward(Calls(lambda x: x.flatten(1)), "plain"), batch=4)
        a, b = engine.predict(Predict(0, ("a", "plain"), (x,)))
        wanted = plain(torch.from_numpy(x).float()) * 2
        assert a.values.tobytes() == wanted.flatten(1).float().numpy().tobytes()
        assert b.values.tobytes() == x.reshape(9, -1).astype(np.float32).tobytes()

    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
    def test_precision_is_that_of_module_and_inputs_and_the_softmax_is_in_float32(self, family, precision):
        seen = []

        def look(x):
            seen.append(x.dtype)
            return x

        x = rows(5)
        dtype = getattr(torch, precision)
        module = nn.Sequential(Calls(look), net())
        spec = {"precision": precision, "output": "logits", "preprocess": (StepSpec(scale=0.5),)}
        engine = hosting(family(), batch=4, space="probabilities", spec=spec, a=module)
        values = only(engine, Predict(0, ("a",), (x,))).values
        low = net().to(dtype)
        with torch.inference_mode():
            halves = [(torch.from_numpy(x[i : i + 4]) * 0.5).to(dtype) for i in (0, 4)]
            wanted = torch.softmax(torch.cat([low(half) for half in halves]).float(), -1)
        assert seen == [dtype, dtype] and values.dtype == np.float32
        assert values.tobytes() == wanted.numpy().tobytes()
        assert np.abs(values.sum(1) - 1).max() < 1e-6

    @pytest.mark.parametrize("select", ["0", "1"])
    def test_one_of_several_outputs_is_selected(self, family, select):
        x = rows(5)
        module = Calls(lambda x: (x.flatten(1), -x.flatten(1)))
        answer = only(hosting(family(), spec={"select": select}, a=module), Predict(0, ("a",), (x,)))
        assert (answer.values == (1, -1)[int(select)] * x.reshape(5, -1)).all()

    def test_classes_are_brought_to_the_ensembles(self, family):
        classes = {"b": "B", "a1": "A", "c": "C", "a2": "A"}
        of = {"classes": ("A", "B", "C")}
        x = np.eye(4, dtype=np.float32).repeat(2, 0)
        spec = {"classes": classes, "output": "logits"}
        engine = hosting(family(), batch=3, space="probabilities", ensemble=of, spec=spec, a=Calls(lambda x: x))
        values = only(engine, Predict(0, ("a",), (x,))).values
        b, a1, c, a2 = torch.softmax(torch.from_numpy(x), -1).numpy().T
        assert values.tobytes() == np.stack([a1 + a2, b, c], 1).tobytes()

    def test_classes_of_another_number_are_refused(self, family):
        spec = {"classes": {"a": "a", "b": "b"}}
        engine = hosting(family(), ensemble={"classes": ("a", "b")}, spec=spec, a=Calls(lambda x: x))
        with pytest.raises(MemberError, match="member a returned 3 classes, and its classes name 2"):
            only(engine, Predict(0, ("a",), (np.zeros((2, 3), np.float32),)))

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (
                "nets:refuse",
                r"member a: preprocess\[0\] \(call nets:refuse\) raised ValueError: not this row \(rows 4–7",
            ),
            ("nets:drop_row", r"member a: preprocess\[0\] .* made \(3, 2, 4, 4\) of 4 rows; a step keeps"),
            ("nets:to_list", r"member a: preprocess\[0\] .* returned int, not a tensor"),
            ("nets:nothing", r"member a: preprocess\[0\] \(call nets:nothing\): cannot import nets:nothing"),
        ],
    )
    def test_a_preprocessing_that_fails_is_named(self, family, call, said):
        x = rows(8)
        x[:4] = 0
        with pytest.raises(MemberError, match=said):
            only(
                hosting(family(), batch=4, spec={"preprocess": (StepSpec(call=call),)}, a=net()),
                Predict(0, ("a",), (x,)),
            )

    def test_rows_on_which_a_preprocessing_raises_are_left_out_where_they_are_masked(self, family):
        x = rows(9)
        x[[0, 1, 3, 4, 7]] = 0  # refuse() raises on all others
        engine = Engine(family().hardware, blank=(32,))
        spec = {"preprocess": (StepSpec(call="nets:refuse"),)}
        engine.host("a", forward(Calls(lambda x: x.flatten(1) + 1), **spec), batch=4)
        answer = only(engine, Predict(0, ("a",), (x,)))
        assert answer.bad == (Bad("raised", (2, 5, 6, 8)),)
        assert np.isnan(answer.values[[2, 5, 6, 8]]).all() and (answer.values[[0, 1, 3, 4, 7]] == 1).all()

    def test_where_rows_are_masked_a_network_that_raises_still_ends_the_run(self, family):
        engine = Engine(family().hardware, blank=(32,))
        engine.host("a", forward(Calls(refuse)), batch=4)
        with pytest.raises(MemberError, match=r"^member a raised KeyError: 'lost' \(rows 0–3"):
            only(engine, Predict(0, ("a",), (rows(8),)))

    def test_where_rows_are_masked_a_preprocessing_that_exits_still_ends_the_run(self, family):
        engine = Engine(family().hardware, blank=(32,))
        engine.host("a", forward(net(), preprocess=(StepSpec(call="builtins:exit"),)), batch=4)
        says = r"^member a: preprocess\[0\] \(call builtins:exit\) raised SystemExit: exit\(.*\) was called \(rows 0–3"
        with pytest.raises(MemberError, match=f"(?s){says}"):
            only(engine, Predict(0, ("a",), (rows(8),)))

    def test_running_out_in_a_preprocessing_halves_the_batch_too(self, family):
        device = family()
        made = forward(Calls(lambda x: x.flatten(1)), preprocess=(StepSpec(scale=2.0),))
        whole = made._preprocessing._steps[0].function

        def scarce(x):
            if len(x) > 2:
                device.exhaust()
            return whole(x)

        made._preprocessing._steps[0] = replace(made._preprocessing._steps[0], function=scarce)
        engine = Engine(device.hardware)
        engine.host("a", made, batch=8)
        x = rows(9)
        answer = only(engine, Predict(0, ("a",), (x,)))
        assert answer.batch == 2 and (answer.values == 2 * x.reshape(9, -1)).all()

    @pytest.mark.parametrize("shape", [(4,), (4, 1)])
    def test_a_softmax_over_no_classes_is_refused(self, family, shape):
        module = Calls(lambda x: x.sum((1, 2, 3)).reshape(shape))
        engine = hosting(family(), spec={"output": "logits"}, space="probabilities", a=module)
        with pytest.raises(MemberError, match="two classes or more"):
            only(engine, Predict(0, ("a",), (rows(4),)))

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_what_is_no_number_is_told_with_its_row_and_cause(self, family, poison):
        x = rows(9)
        x[6, 1, 2, 3] = poison
        fed = only(hosting(family(), batch=4, a=Calls(lambda x: x.flatten(1))), Predict(7, ("a",), (x,)))
        assert fed.bad == (Bad("input", (6,)),)
        divided = Calls(lambda x: torch.where(x.sum((1, 2, 3))[:, None] > 1e30, poison, x.flatten(1)))
        x[6, 1, 2, 3] = 1e31
        gave = only(hosting(family(), batch=4, a=divided), Predict(7, ("a",), (x,)))
        assert gave.bad == (Bad("output", (6,)),)
        x[6, 1, 2, 3] = 3e38  # finite, and of a sum that is not
        x[6, 0, 0, 0] = 3e38
        assert only(hosting(family(), batch=4, a=Calls(lambda x: x[:, 0, 0])), Predict(7, ("a",), (x,))).bad == ()

    @pytest.mark.parametrize("poison", [float("nan"), float("-inf")])
    def test_a_member_may_take_rows_that_are_no_numbers_and_is_judged_by_what_it_gives(self, family, poison):
        x = rows(9)
        x[6, 1, 2, 3] = poison
        module = Calls(lambda x: torch.nan_to_num(x, 2.0, 2.0, 2.0).flatten(1))
        spec = {"bad_rows": "pass"}
        answer = only(hosting(family(), spec=spec, batch=4, a=module), Predict(7, ("a",), (x,)))
        assert answer.bad == () and (answer.values == np.nan_to_num(x, nan=2, neginf=2).reshape(9, -1)).all()
        gives_them = Calls(lambda x: x.flatten(1))
        answer = only(hosting(family(), spec=spec, batch=4, a=gives_them), Predict(7, ("a",), (x,)))
        assert answer.bad == (Bad("output", (6,)),)

    def test_running_out_halves_the_batch_from_the_first_row_on(self, family):
        device = family()
        member = Limited(net(), 5, device.exhaust)
        engine = hosting(device, batch=16, a=member, b=net(1))
        x = rows(21)
        a, b = engine.predict(Predict(0, ("a", "b"), (x,)))
        assert member.seen == [16, 8, 4, 4, 4, 4, 4, 1]
        assert (a.batch, b.batch, dict(engine.ceilings)) == (4, 16, {"a": 4})
        assert (
            a.values.tobytes() == only(hosting(family(), batch=4, a=net()), Predict(0, ("a",), (x,))).values.tobytes()
        )
        member.seen.clear()
        assert only(engine, Predict(1, ("a",), (x,))).batch == 4
        assert member.seen == [4] * 5 + [1], "the ceiling was not remembered"

    def test_running_out_in_a_later_batch_leaves_nothing_of_the_first(self, family):
        device = family()
        calls = []

        def second_runs_out(x):
            calls.append(len(x))
            if len(calls) == 2:
                device.exhaust()
            return x.flatten(1)

        x = rows(10)
        answer = only(hosting(device, batch=8, a=Calls(second_runs_out)), Predict(0, ("a",), (x,)))
        assert calls == [8, 2, 4, 4, 2]
        assert answer.batch == 4 and answer.values.tobytes() == x.reshape(10, -1).tobytes()

    @settings(deadline=None, max_examples=40)
    @given(fits=st.integers(1, 20), batch=st.integers(1, 32), count=st.integers(1, 30))
    def test_whatever_fits_the_bytes_are_those_of_the_batch_reported(self, family, fits, batch, count):
        device = family()
        engine = hosting(device, batch=batch, a=Limited(net(), fits, device.exhaust))
        for segment in range(2):
            x = rows(count, seed=segment)
            answer = only(engine, Predict(segment, ("a",), (x,)))
            assert min(answer.batch, count) <= fits and answer.batch <= batch
            assert answer.values.tobytes() == plainly(net(), x, answer.batch)

    def test_not_even_one_row_fits(self, family):
        device = family()
        engine = hosting(device, a=Limited(net(), 0, device.exhaust))
        with pytest.raises(DeviceOutOfMemory, match="member a: one row does not fit"):
            only(engine, Predict(0, ("a",), (rows(8),)))

    def test_other_errors_are_not_taken_for_a_lack_of_memory(self, family):
        hardware = family().hardware
        assert not hardware.out_of_memory(RuntimeError("shape mismatch"))
        assert not hardware.out_of_memory(KeyError("can't allocate memory"))

    def test_what_is_staged_is_not_hidden_by_another_error(self, family, monkeypatch):
        device = family()
        monkeypatch.setattr(device.hardware, "stage", refuse)
        engine = hosting(device, a=net())
        for call in (engine.stage, lambda task: list(engine.predict(task))):
            with pytest.raises(KeyError, match="lost"):
                call(Predict(0, ("a",), (rows(2),)))


def test_a_file_with_its_device_baked_in_is_told_as_such():
    def baked(x):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        )

    with pytest.raises(MemberError, match="member a raised") as caught:
        only(hosting(Cuda(), a=Calls(baked)), Predict(0, ("a",), (rows(4),)))
    assert "traced on" in caught.value.remedy and "torch.export" in caught.value.remedy

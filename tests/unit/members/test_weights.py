"""State dicts: read whatever they are called, and nothing is unpickled unless the member is trusted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.member_files import Custom, load, module_of

from hpcens.errors import MemberError


class TestStateDicts:
    @pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.safetensors"])
    @pytest.mark.parametrize("around", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
    @pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
    def test_of_torch_are_read_whatever_they_are_called(self, member, state, tmp_path, name, around, options):
        torch.save(around(state), tmp_path / name, **options)
        got = module_of(load(replace(member, weights=tmp_path / name))).state_dict()
        assert all(torch.equal(state[key], value) for key, value in got.items())

    @pytest.mark.parametrize(
        ("holds", "said"),
        [
            (lambda s: {"model": s, "ema": s}, "holds several state dicts \\(model, ema\\)"),
            (lambda s: {"epoch": 3}, "holds no state dict under its keys epoch"),
            (lambda s: [1, 2], "holds list, not a state dict"),
            (lambda s: torch.zeros(3), "holds Tensor, not a state dict"),
            (lambda s: {}, "holds no state dict"),
        ],
    )
    def test_that_are_none_or_ambiguous_are_refused(self, member, state, tmp_path, holds, said):
        torch.save(holds(state), tmp_path / "w.pt")
        with pytest.raises(MemberError, match=f"member conv: .*w.pt {said}"):
            load(replace(member, weights=tmp_path / "w.pt"))

    @pytest.mark.parametrize("holds", [lambda s: s | {"extra": Custom()}, lambda s: Custom()])
    @pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
    def test_nothing_is_unpickled_unless_the_member_is_trusted(
        self, member, state, tmp_path, unpickled, holds, options
    ):
        torch.save(holds(dict(state)), tmp_path / "w.pt", **options)
        spec = replace(member, weights=tmp_path / "w.pt")
        with pytest.raises(
            MemberError, match=r"member conv: .*w.pt holds an object of posix.mkdir; unpickling"
        ) as caught:
            load(spec)
        assert "torch.save(module.state_dict(), FILE)" in caught.value.remedy
        assert "trust: pickle for member conv" in caught.value.remedy
        assert not unpickled.exists()
        with pytest.raises(MemberError, match=r"member conv: .*w.pt holds (no state dict|NoneType)"):
            load(replace(spec, trust=("pickle",)))
        assert unpickled.exists()

    def test_an_array_of_objects_is_refused(self, member, tmp_path):
        torch.save({"a": np.array([{}, 1], object)}, tmp_path / "w.pt")
        with pytest.raises(MemberError, match=r"member conv: .*w.pt holds an object of numpy"):
            load(replace(member, weights=tmp_path / "w.pt"))

    @pytest.mark.parametrize(
        "content", [b"", b"no such thing", b"\x80\x02}q\x00.", b"PK\x03\x04 cut off", b"12345678{"]
    )
    def test_a_damaged_file(self, member, tmp_path, content):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(MemberError, match=r"member conv: .*bad (is|holds) "):
            load(replace(member, weights=tmp_path / "bad"))

    def test_a_cut_off_checkpoint(self, member, state, tmp_path):
        torch.save(state, tmp_path / "w.pt")
        whole = (tmp_path / "w.pt").read_bytes()
        for size in (10, 100, len(whole) // 2, len(whole) - 1):
            (tmp_path / "w.pt").write_bytes(whole[:size])
            with pytest.raises(MemberError, match=r"member conv: .*w.pt is "):
                load(replace(member, weights=tmp_path / "w.pt"))

"""Whole runs under real MPI over datasets as people bring them, against plain torch and numpy."""

import json

import h5py
import numpy as np
import pytest

NETS = """
import torch

class Both(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.meta = torch.nn.Linear(192, 4), torch.nn.Linear(5, 4)

    def forward(self, images, meta):
        return self.image(images.flatten(1)) + self.meta(meta)
"""
COUNTS = 150, 90, 160


@pytest.fixture
def parts(project):
    """Three files with two inputs each, compressed in their own way, a mask and columns; a member that takes both."""
    import torch
    from safetensors.torch import save_file

    draw = np.random.default_rng(1)
    found = {"images": [], "meta": [], "mask": [], "ids": []}
    for i, (count, codec) in enumerate(zip(COUNTS, ["gzip", "lzf", None], strict=True)):
        images, meta = draw.integers(0, 255, (count, 3, 8, 8), np.uint8), draw.random((count, 5)).astype(">f4")
        mask, ids = draw.random(count) < 0.7, np.array([f"{i}/{n}" for n in range(count)], object)
        with h5py.File(project.folder / f"part-{8 + i}.h5", "w") as file:
            how = {"chunks": (33, 3, 5, 8), "compression": codec} if codec else {}
            file.create_dataset("data/images", data=images, **how)
            file["data/table"] = np.rec.fromarrays([meta, mask], [("meta", ">f4", (5,)), ("odd", "?")])
            file["mask"] = mask
            file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())
        for name, values in zip(found, (images, meta, mask, ids), strict=True):
            found[name].append(values)
    torch.manual_seed(3)
    (project.folder / "both.py").write_text(NETS)
    namespace = {}
    exec(NETS, namespace)
    net = namespace["Both"]()
    save_file(net.state_dict(), project.folder / "both.safetensors")
    (project.folder / "hpcens.yaml").write_text("""
members: [{name: both, factory: "both:Both", weights: both.safetensors}]
dataset:
  inputs: {images: data/images, meta: {path: data/table, field: meta}}
  select: mask
  columns: [ids]
devices: {cpu: 2}
task: multiclass
plan: {batch_sizes: [16]}
""")
    return net, {name: np.concatenate(values) for name, values in found.items()}


def test_files_inputs_fields_selection_and_columns_in_one_run(project, parts):
    import torch

    net, data = parts
    out = project.hpcens("run", "part-*.h5")
    result = project.folder / "part-8.and-2-more.predictions.h5"
    assert f"{data['mask'].sum()} rows scored" in out
    with torch.inference_mode():
        images, meta = (torch.from_numpy(data[name][data["mask"]].astype("f4")) for name in ("images", "meta"))
        wanted = torch.softmax(net(images, meta).double(), 1).numpy()
    with h5py.File(result) as file:
        assert np.abs(file["prediction"][:] - wanted).max() < 1e-5
        assert file["columns/ids"].asstr()[:].tolist() == data["ids"][data["mask"]].tolist()
        datasets, tree = list(file.attrs["datasets"]), json.loads(file.attrs["fingerprint"])
    assert datasets == [str(project.folder / f"part-{i}.h5") for i in (8, 9, 10)]
    assert tree["data"]["inputs"]["meta"] == "data/table field meta <f4[5]" and len(tree["data"]["files"]) == 3
    assert "sound" in project.hpcens("verify", result.name)
    assert "complete already" in project.hpcens("run", "part-8.h5", "part-9.h5", "part-10.h5")
    with h5py.File(project.folder / "part-9.h5", "r+") as file:
        file["mask"][0] = ~file["mask"][0]
    names = [f"part-{i}.h5" for i in (8, 9, 10)]
    assert "quote patterns" in project.hpcens("run", *names, result.name, code=65)
    said = project.hpcens("run", "part-*.h5", code=78)
    assert "data.files.2.selected" in said and "data.files.1" not in said


def test_a_damaged_chunk_in_mid_run_is_bad_data_with_its_rows(project):
    """One that the first look does not see: it looks at 65 rows."""
    seen = {round(i * 3999 / 64) // 10 for i in range(65)}
    damaged = next(chunk for chunk in range(300, 400) if chunk not in seen)
    with h5py.File(project.dataset, "w") as file:
        rows = np.random.default_rng(0).random((4000, 3, 8, 8), np.float32)
        file.create_dataset("images", data=rows, chunks=(10, 3, 8, 8), compression="gzip", fletcher32=True)
        chunk = file["images"].id.get_chunk_info_by_coord((10 * damaged, 0, 0, 0))
    with project.dataset.open("rb+") as raw:
        raw.seek(chunk.byte_offset + 500)
        raw.write(b"damage")
    out = project.hpcens("run", "dataset.h5", code=65)
    assert f"dataset.h5: /images: rows {10 * damaged}–{10 * damaged + 9} cannot be read" in out
    assert "(reader)" in out and "Traceback" not in out
    assert not project.output.exists() and project.run.exists()


CUTTING = """
import glob, os, time, torch

class Cutting(torch.nn.Linear):
    def forward(self, rows):
        if glob.glob("*.run/working-*.h5") and os.path.getsize(self.file) > 100_000:
            os.truncate(self.file, 100_000)
        time.sleep(0.001)  # lest all be read before
        return super().forward(rows)

def build(file):
    net = Cutting(32, 3)
    net.file = file
    return net
"""


@pytest.mark.parametrize("way", ["virtual", "link", "storage"])
def test_a_file_behind_the_dataset_that_is_cut_in_mid_run_is_bad_data(project, way):
    """Its first segments are scored by then; of the rest HDF5 would read zeros."""
    import torch

    rows = np.random.default_rng(0).random((60_000, 32), np.float32)
    part = project.folder / "part.h5"
    with h5py.File(project.dataset, "w") as file:
        if way == "storage":
            file.create_dataset("x", data=rows, external=[(str(part), 0, rows.nbytes)])
        else:
            with h5py.File(part, "w") as other:
                other["x"] = rows
            if way == "link":
                file["x"] = h5py.ExternalLink("part.h5", "x")
            else:
                layout = h5py.VirtualLayout(rows.shape, "f4")
                layout[:] = h5py.VirtualSource("part.h5", "x", rows.shape)
                file.create_virtual_dataset("x", layout)
    (project.folder / "cutting.py").write_text(CUTTING)
    torch.save(torch.nn.Linear(32, 3).state_dict(), project.folder / "net.pt")
    (project.folder / "hpcens.yaml").write_text(f"""
members:
  - {{name: a, factory: "cutting:build", arguments: {{file: "{part}"}}, weights: net.pt, output: values}}
devices: {{cpu: 1}}
plan: {{batch_sizes: [64], runtime: eager}}
dataset: x
""")
    out = project.hpcens("run", "dataset.h5", code=65)
    assert f"{part} changed since the run was prepared" in out or f"{part} changed while it was read" in out
    assert "Traceback" not in out
    assert not project.output.exists()
    if way == "virtual":
        part.unlink()
        assert "part.h5, which is not there" in project.hpcens("run", "dataset.h5", code=65)


def test_no_byte_of_the_result_is_touched_by_a_wrong_dataset(project):
    before = project.dataset.read_bytes()
    for arguments, said in [
        (["dataset.h5", "missing.h5"], "missing.h5: no such file"),
        (["part-*.h5"], "no file matches part-*.h5"),
    ]:
        assert said in project.hpcens("run", *arguments, code=65)
    assert "named more than once" in project.hpcens("run", "dataset.h5", "dataset.h5", code=2)
    assert project.dataset.read_bytes() == before and not project.run.exists()

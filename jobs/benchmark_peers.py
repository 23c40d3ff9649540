"""What others make of it: a DataLoader loop, Lightning and Ray Data, as their users write them and tuned.

python jobs/benchmark_peers.py loader|lightning|ray FOLDER SETTING NAME [--tuned]

As written: batches of 32, rows one by one, eager. Tuned: runtimes, batch sizes, processes and threads of
the setting, whole batches read at once. Leaves NAME.json and NAME.h5.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from benchmark_ideal import CORES, Setting, load_member, mean_of, note
from torch.utils.data import DataLoader, Dataset

_BATCH = 32


class Ensemble:
    """Rows (n, 3, 64, 64) → the mean of the members' softmax."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self._members = {name: load_member(folder, name, *how) for name, how in setting.members.items()}
        self._batches = {name: batch for name, (_, batch) in setting.members.items()}

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return mean_of(self._members, self._batches, rows)


def as_written(setting: Setting) -> Setting:
    return Setting(setting.processes, setting.threads, dict.fromkeys(setting.members, ("eager", _BATCH)))


def batch_of(setting: Setting) -> int:
    return max(batch for _, batch in setting.members.values())


class Images(Dataset[tuple[int, np.ndarray[Any, Any]]]):
    """Rows of the file, opened by whoever reads first; with their places."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "dataset.h5"
        self._images: Any = None
        with h5py.File(self._path) as file:
            self._rows = len(file["images"])

    def __len__(self) -> int:
        return self._rows

    @property
    def images(self) -> Any:
        if self._images is None:
            self._images = h5py.File(self._path)["images"]
        return self._images

    def __getitem__(self, row: int) -> tuple[int, Any]:
        return row, self.images[row]


class WholeBatches(Images):
    """Items are whole batches: one read each."""

    def __init__(self, folder: Path, batch: int) -> None:
        super().__init__(folder)
        self._batch = batch

    def __len__(self) -> int:
        return -(-self._rows // self._batch)

    def __getitem__(self, batch: int) -> tuple[Any, Any]:
        start, stop = batch * self._batch, min((batch + 1) * self._batch, self._rows)
        return torch.arange(start, stop), torch.from_numpy(self.images[start:stop])


def loader_of(folder: Path, setting: Setting, *, tuned: bool) -> DataLoader[Any]:
    if tuned:
        return DataLoader(WholeBatches(folder, batch_of(setting)), batch_size=None)
    return DataLoader(Images(folder), batch_size=_BATCH)


def loader(folder: Path, setting: Setting, name: str, *, tuned: bool) -> None:
    """One process, torch's own threads."""
    torch.set_num_threads(CORES)
    ensemble = Ensemble(folder, setting)
    batches = loader_of(folder, setting, tuned=tuned)
    timeline, parts = [(time.time(), 0)], []
    for _, rows in batches:
        parts.append(ensemble(rows).numpy())
        timeline.append((time.time(), len(rows)))
    note(folder, name, timeline, np.concatenate(parts))


def lightning(folder: Path, setting: Setting, name: str, *, tuned: bool) -> None:
    """Trainer.predict, ddp where there are several processes. Ranks write their rows; rank 0 puts them together."""
    import lightning as lt
    from lightning.pytorch.callbacks import BasePredictionWriter

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(setting.threads)
    timeline: list[tuple[float, int]] = []
    places: list[Any] = []
    parts: list[Any] = []

    class Module(lt.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.ensemble = Ensemble(folder, setting)
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def predict_step(self, batch: Any, index: int) -> Any:
            if not timeline:
                timeline.append((time.time(), 0))
            return batch[0], self.ensemble(batch[1])

    class Writer(BasePredictionWriter):
        def __init__(self) -> None:
            super().__init__("batch")

        def write_on_batch_end(self, trainer: Any, module: Any, given: Any, *_: Any) -> None:
            places.append(given[0].numpy())
            parts.append(given[1].numpy())
            timeline.append((time.time(), len(places[-1])))

        def on_predict_end(self, trainer: Any, module: Any) -> None:
            mine = folder / f"{name}.{trainer.global_rank}.npz"
            np.savez(mine, places=np.concatenate(places), parts=np.concatenate(parts), timeline=np.array(timeline))
            trainer.strategy.barrier()
            if trainer.global_rank == 0:
                _gather(folder, name, trainer.world_size)

    trainer = lt.Trainer(
        accelerator="cpu",
        devices=setting.processes,
        strategy="ddp" if setting.processes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Writer()],
    )
    trainer.predict(Module(), loader_of(folder, setting, tuned=tuned), return_predictions=False)


def _gather(folder: Path, name: str, ranks: int) -> None:
    """Rows that ddp gave to two ranks, to make their shares equal, count once."""
    timeline: list[tuple[float, int]] = []
    found: dict[int, Any] = {}
    for path in (folder / f"{name}.{rank}.npz" for rank in range(ranks)):
        with np.load(path) as mine:
            found.update(zip(mine["places"].tolist(), mine["parts"], strict=True))
            timeline += [(moment, int(rows)) for moment, rows in mine["timeline"].tolist()]
        path.unlink()
    note(folder, name, timeline, np.stack([found[row] for row in range(len(found))]))


def ray(folder: Path, setting: Setting, name: str, *, tuned: bool) -> None:
    """Row ranges → read → a pool of actors that hold all members → the driver puts the rows together."""
    import ray as r

    batch = batch_of(setting)
    rows = len(Images(folder))

    class Read:
        def __init__(self) -> None:
            self._images = Images(folder)

        def __call__(self, of: dict[str, Any]) -> dict[str, Any]:
            start, stop = int(of["start"][0]), int(of["stop"][0])
            return {"place": np.arange(start, stop), "image": self._images.images[start:stop]}

    class Score:
        def __init__(self) -> None:
            torch.set_num_threads(setting.threads)
            self._ensemble = Ensemble(folder, setting)
            self._first = 0.0

        def __call__(self, of: dict[str, Any]) -> dict[str, Any]:
            self._first = self._first or time.time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Arrow's arrays cannot be written to, and nobody does
                values = self._ensemble(torch.from_numpy(of["image"])).numpy()
            moments = np.full(len(values), time.time())
            return {
                "place": of["place"],
                "value": values,
                "moment": moments,
                "first": np.full(len(values), self._first),
            }

    r.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    r.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    block = 2 * batch if tuned else 4 * _BATCH
    ranges = [{"start": start, "stop": min(start + block, rows)} for start in range(0, rows, block)]
    read = r.data.from_items(ranges, override_num_blocks=len(ranges)).map_batches(
        Read, batch_size=1, concurrency=1, num_cpus=0.1
    )
    scored = read.map_batches(Score, batch_size=batch if tuned else _BATCH, concurrency=setting.processes, num_cpus=0.9)
    prediction, timeline, firsts = None, [], []
    for of in scored.iter_batches(batch_size=None, batch_format="numpy"):
        if prediction is None:
            prediction = np.empty((rows, *of["value"].shape[1:]), np.float32)
        prediction[of["place"]] = of["value"]
        timeline.append((float(of["moment"].max()), len(of["place"])))
        firsts.append(float(of["first"].min()))
    assert prediction is not None
    note(folder, name, [(min(firsts), 0), *timeline], prediction)
    r.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description="Score FOLDER's dataset as users of other tools do.")
    parser.add_argument("peer", choices=("loader", "lightning", "ray"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("setting")
    parser.add_argument("name")
    parser.add_argument("--tuned", action="store_true")
    options = parser.parse_args()
    setting = Setting.load(options.folder, options.setting)
    score = {"loader": loader, "lightning": lightning, "ray": ray}[options.peer]
    given = setting if options.tuned else as_written(setting)
    score(options.folder, given, options.name, tuned=options.tuned)
    return 0


if __name__ == "__main__":
    sys.exit(main())

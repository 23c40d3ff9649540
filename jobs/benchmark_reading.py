"""How fast the reader reads: rows/s by layout, side by side with h5py reading the same file alone in one thread.

python jobs/benchmark_reading.py [--rows 4096] [--rounds 5] [--segment-rows 100] [--folder FOLDER]

Both read the same segments of the same file, in turns, so that a machine that drifts drifts for both; the file is in
the page cache. Their bytes are compared. The ratio is the median over the rounds of hpcens's speed to h5py's.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcens.dataset.source import Source
from hpcens.specs import DatasetSpec
from hpcens.vocabulary import Segmentation

try:
    import hdf5plugin
except ImportError:
    sys.exit("hdf5plugin is missing: pip install 'hpcens[filters]'")

CHUNKS = {"chunks": (64, 64, 64)}
CODECS: dict[str, dict[str, Any]] = {
    "chunked": {},
    "gzip": {"compression": "gzip"},
    "shuffle+gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "shuffle+lzf": {"compression": "lzf", "shuffle": True},
    "blosc-zstd": dict(hdf5plugin.Blosc(cname="zstd")),
    "blosc-lz4": dict(hdf5plugin.Blosc(cname="lz4")),
    "zstd": dict(hdf5plugin.Zstd()),
    "bitshuffle-lz4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
}
LAYOUTS = {"contiguous": {}} | {name: CHUNKS | codec for name, codec in CODECS.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Rows/s of the reader by layout, beside h5py alone.")
    parser.add_argument("--rows", type=int, default=4096, help="of 64 × 64 float32 (default: 4096, 64 MiB)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--segment-rows", type=int, default=100, help="segments straddle chunks (default: 100)")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = images(options.rows)
        print(f"{'layout':<16}{'file':>8}{'hpcens':>12}{'h5py':>12}{'hpcens':>10}{'h5py':>8}{'ratio':>8}   range")
        print(f"{'':<16}{'of rows':>8}{'rows/s':>12}{'rows/s':>12}{'MB/s':>10}{'MB/s':>8}")
        for layout, how in LAYOUTS.items():
            path = Path(folder) / f"{layout}.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset("images", data=rows, **how)
            compare(layout, path, rows, options)
            path.unlink()
        print(f"two threads that only hash are {two_threads():.2f} times as fast as one here: what threads can gain")
    return 0


def two_threads() -> float:
    """What the machine has to give: beside other work, a second thread may gain nothing."""
    block = bytes(8 << 20)

    def seconds(threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            began = time.perf_counter()
            list(pool.map(lambda _: sha256(block).digest(), range(8)))
            return time.perf_counter() - began

    return statistics.median(seconds(1) / seconds(2) for _ in range(9))


def images(count: int) -> NDArray[np.float32]:
    """Smooth blobs with a little noise of few levels: they compress about as photographs do."""
    draw = np.random.default_rng(0)
    x = np.linspace(0, 6, 64)
    phase = draw.random((count, 2, 1, 1)) * 6
    blobs = np.sin(x[:, None] + phase[:, 0]) * np.cos(x + phase[:, 1])
    return (np.round(blobs * 60 + draw.normal(0, 2, (count, 64, 64))) / 128).astype(np.float32)


def compare(layout: str, path: Path, rows: NDArray[np.float32], options: argparse.Namespace) -> None:
    segmentation = Segmentation(len(rows), options.segment_rows)
    ours, theirs = [], []
    for _ in range(options.rounds):
        for read, speeds in ((by_hpcens, ours), (by_h5py, theirs)):
            segments = read(path, segmentation)
            next(segments)  # the file is open
            began = time.perf_counter()
            for i, segment in enumerate(segments):
                start, stop = segmentation.bounds(i)
                if not np.array_equal(segment[:: stop - start], rows[start : start + 1]):
                    sys.exit(f"{layout}: segment {i} is wrong")
            speeds.append(len(rows) / (time.perf_counter() - began))
    ratios = sorted(mine / h5py_s for mine, h5py_s in zip(ours, theirs, strict=True))
    mine, other = statistics.median(ours), statistics.median(theirs)
    size, row = path.stat().st_size / rows.nbytes, rows[0].nbytes / 1e6
    print(
        f"{layout:<16}{size:>8.2f}{mine:>12,.0f}{other:>12,.0f}{mine * row:>10,.0f}{other * row:>8,.0f}"
        f"{statistics.median(ratios):>8.2f}   {ratios[0]:.2f}–{ratios[-1]:.2f}",
        flush=True,
    )


def by_hpcens(path: Path, segmentation: Segmentation) -> Iterator[NDArray[Any]]:
    """First no rows, once the file is open; then every segment."""
    source = Source([path], DatasetSpec())
    yield source.head(0)[0]
    for segment in range(len(segmentation)):
        yield source.read(segmentation, segment)[0]
    source.close()


def by_h5py(path: Path, segmentation: Segmentation) -> Iterator[NDArray[Any]]:
    with h5py.File(path) as file:
        dataset = file["images"]
        yield dataset[:0]
        for segment in range(len(segmentation)):
            start, stop = segmentation.bounds(segment)
            rows = np.empty((stop - start, *dataset.shape[1:]), dataset.dtype)
            dataset.read_direct(rows, np.s_[start:stop])
            yield rows


if __name__ == "__main__":
    sys.exit(main())

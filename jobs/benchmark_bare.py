"""What the cores do without an engine: processes that read rows, copy, multiply and check them in a loop.

python jobs/benchmark_bare.py DATASET.H5 [--processes 2] [--rows N] [--batch 16] [--only-decompress]

Each process takes every so many-th batch of the rows: preadv, or pread and decompress, into memory that it uses again;
a private copy, one linear layer of 4 outputs on one thread, a look for what is not finite. With --only-decompress no
more than the rows in memory. Prints one line of JSON: rows, seconds from when all begin until the last has ended.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Fill = Callable[[int, int, Bytes], None]
"""Puts the rows from one on, before another, into memory."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Rows/s of the cores without an engine.")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only-decompress", action="store_true")
    options = parser.parse_args()
    with h5py.File(options.dataset) as file:
        options.rows = options.rows or len(file["rows"])
    spawned = multiprocessing.get_context("spawn")
    ready, spans = spawned.Barrier(options.processes), spawned.Queue()
    others = [spawned.Process(target=work, args=(number, options, ready, spans)) for number in range(options.processes)]
    for process in others:
        process.start()
    begins, ends = zip(*(spans.get() for _ in others), strict=True)
    for process in others:
        process.join()
    print(json.dumps({"rows": options.rows, "seconds": max(ends) - min(begins)}))
    return 0


def work(number: int, options: argparse.Namespace, ready: Barrier, spans: Any) -> None:
    with h5py.File(options.dataset) as file:
        dataset = file["rows"]
        fill = filler(dataset)
        shape, row_bytes = dataset.shape[1:], dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
        memory = np.zeros(options.batch * row_bytes, np.uint8)
        compute = None if options.only_decompress else computing(options.batch, shape)
        fill(0, min(options.batch, options.rows), memory)
        if compute is not None:
            compute(memory, min(options.batch, options.rows))
        ready.wait()
        began = time.monotonic()
        for start, stop in batches(options, number):
            fill(start, stop, memory[: (stop - start) * row_bytes])
            if compute is not None:
                compute(memory, stop - start)
        spans.put((began, time.monotonic()))


def batches(options: argparse.Namespace, number: int) -> Iterator[tuple[int, int]]:
    for start in range(number * options.batch, options.rows, options.processes * options.batch):
        yield start, min(options.rows, start + options.batch)


def computing(batch: int, shape: tuple[int, ...]) -> Callable[[Bytes, int], None]:
    import torch

    torch.set_num_threads(1)
    layer = torch.nn.Linear(int(np.prod(shape)), 4)
    private = torch.zeros(batch, *shape)

    def compute(memory: Bytes, rows: int) -> None:
        with torch.inference_mode():
            taken = torch.from_numpy(memory.view(np.float32).reshape(-1, *shape)[:rows])
            private[:rows].copy_(taken)
            layer(private[:rows])
            if not torch.isfinite(taken.sum()):
                raise ValueError("a row is not finite")

    return compute


def filler(dataset: h5py.Dataset) -> Fill:
    descriptor = dataset.file.id.get_vfd_handle()
    row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        return lambda start, _, into: read(descriptor, offset + start * row_bytes, into)
    places = {}
    dataset.id.chunk_iter(lambda chunk: places.update({chunk.chunk_offset[0]: (chunk.byte_offset, chunk.size)}))
    undo = decompressing(dataset, row_bytes * dataset.chunks[0])

    def fill(start: int, stop: int, into: Bytes) -> None:
        """Chunks of one row each."""
        for row in range(start, stop):
            address, size = places[row]
            raw = np.empty(size, np.uint8)
            read(descriptor, address, raw)
            undo(raw, into[(row - start) * row_bytes : (row + 1 - start) * row_bytes])

    return fill


def read(descriptor: int, offset: int, into: Bytes) -> None:
    if os.preadv(descriptor, [into.data], offset) != len(into):
        raise OSError("the file is too short")


def decompressing(dataset: h5py.Dataset, size: int) -> Callable[[Bytes, Bytes], None]:
    """As well as it can be done with what is installed."""
    if dataset.compression == "gzip":
        try:
            from isal import isal_zlib as zlib
        except ImportError:
            import zlib  # type: ignore[no-redef]

        def inflate(raw: Bytes, into: Bytes) -> None:
            into[:] = np.frombuffer(zlib.decompress(raw.data, 15, size + 64), np.uint8)

        return inflate
    import ctypes

    import hdf5plugin

    library = ctypes.CDLL(hdf5plugin.get_config().registered_filters["blosc"])
    pointer = ctypes.c_void_p
    library.blosc_decompress_ctx.argtypes = [pointer, pointer, ctypes.c_size_t, ctypes.c_int]

    def blosc(raw: Bytes, into: Bytes) -> None:
        if library.blosc_decompress_ctx(raw.ctypes.data, into.ctypes.data, len(into), 1) != len(into):
            raise ValueError("a chunk is damaged")

    return blosc


if __name__ == "__main__":
    sys.exit(main())

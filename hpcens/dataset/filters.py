"""Filters: how HDF5 compresses, and the plugins that some of it needs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from hpcens.errors import UsageError
from hpcens.specs import CompressionSpec

_PLUGINS = "hdf5plugin"


def load_plugins() -> bool:
    """Register hdf5plugin's filters with HDF5; False where it is not installed."""
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        return False
    return True


def check_filter(compression: CompressionSpec) -> None:
    """Raise UsageError where the filter's package is missing."""
    if compression.name not in ("gzip", "lzf") and not find_spec(_PLUGINS):
        raise UsageError(
            f"output.compression {compression.name} needs the package {_PLUGINS}, which is not installed",
            f"pip install {_PLUGINS}, or write compression: gzip",
        )


def filter_options(compression: CompressionSpec) -> dict[str, Any]:
    """Return keyword arguments of h5py's create_dataset. Bytes are shuffled: floats compress better so."""
    check_filter(compression)
    name, level = compression.name, compression.level
    if name in ("gzip", "lzf"):
        return {"compression": name, "compression_opts": level, "shuffle": True}
    import hdf5plugin

    settings = {} if level is None else {"clevel": level}
    if name == "zstd":
        return {**hdf5plugin.Zstd(**settings), "shuffle": True}
    codec: Any = name.removeprefix("blosc-")
    return dict(hdf5plugin.Blosc(cname=codec, shuffle=hdf5plugin.Blosc.SHUFFLE, **settings))

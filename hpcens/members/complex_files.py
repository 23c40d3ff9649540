"""Complex numbers in a graph's file, seen without torch: earlier code cut them to their real parts."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

_MOST_BYTES = 64 << 20
_STORAGE = re.compile(rb"Complex(Float|Double)Storage")  # in a pickle
_DTYPE = re.compile(rb'"dtype": ?1[01]\b')  # in an exported program's list of tensors


def holds_complex(file: Path) -> bool:
    """Tell whether a file of torch.jit.save or torch.export.save holds complex parameters, buffers or constants."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                wanted = (
                    _STORAGE if name.endswith((".pkl", ".pt")) else _DTYPE if name.endswith("_config.json") else None
                )
                if wanted is not None and "sample_inputs" not in name and "traced_inputs" not in name:
                    with archive.open(name) as entry:
                        if wanted.search(entry.read(_MOST_BYTES)):
                            return True
    except (OSError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile):
        pass  # whoever loads it says what is wrong with it
    return False

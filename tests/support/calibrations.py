"""Calibrations written by hand, as `hpcens calibrate` writes its file."""

import json
from pathlib import Path

from hpcens.config.calibration import FORMAT
from hpcens.specs import Calibration


def written(path, **fields):
    """Write the file of a calibration; return it. By default one of classes at temperature 2, fitted to nothing."""
    content = {"kind": "classes", "temperature": 2.0, **fields}
    calibration = Calibration(path=Path(path), **content)
    Path(path).write_text(json.dumps({"format": FORMAT, "digest": calibration.digest, **calibration.content}))
    return calibration

"""The files of an ONNX member: large tensors may lie beside the graph. Imports no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from hpcens.errors import MemberError, UsageError
from hpcens.members.weights import misplaced
from hpcens.specs import MemberSpec


def data_files(spec: MemberSpec) -> tuple[Path, ...]:
    """Name the files beside the ONNX file in which it keeps large tensors.

    Raises UsageError where the packages are missing, MemberError where the file is not ONNX or they lie elsewhere.
    """
    missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise UsageError(
            f"member {spec.name} is an ONNX file, and {' and '.join(missing)} is not installed",
            "pip install 'hpcens[onnx]'",
        )
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    try:
        model = onnx.load(spec.file, load_external_data=False)
        tensors = [tensor for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
        entries = [entry for tensor in tensors for entry in tensor.external_data]
        places = {entry.value for entry in entries if entry.key == "location"}
    except OSError as error:
        raise MemberError(f"member {spec.name}: {spec.file}: {error.strerror}", "check members[].onnx") from None
    except Exception as error:  # protobuf's errors share no base class but Exception
        raise misplaced(spec, error) from error
    folder = spec.file.parent
    return tuple(folder / place for place in sorted(places))

"""Graphs: networks that bring their own code as a graph, from TorchScript and torch.export files.

An exported program is a zip of JSON and raw tensors, but torch may find pickles in it, compiled libraries, and
Python in its guards and expressions. None of that is run: the first two are refused, the guards left out.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import inspect
import json
import logging
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from hpcens.errors import MemberError
from hpcens.members.network import Network
from hpcens.members.weights import kind_of, misplaced, refused
from hpcens.specs import MemberSpec

# Operators that reach files or other processes, of torch and of the libraries that read images and sound.
_FILES = r"(?P<name>save|from_file|load_library|rpc_\w+|sox_\w+|\w*(?:read|write|load|save|open)\w*file\w*)"
# In TorchScript's code, after any dot, since a name may stand for torch itself, or as text, for getattr.
_NAMED_IN_CODE = re.compile(rf"(?:\.[\s\\]*|(?P<quote>[\"']))\b{_FILES}\b(?(quote)[\"'])")
_NAMED_IN_GRAPH = re.compile(rf"\btorch\.ops\.\w+\.{_FILES}\b")
_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def load_torchscript(spec: MemberSpec) -> Network:
    """Load the module of a torch.jit.save file. Raises MemberError where it is none, or reads or writes files."""
    if kind_of(spec.file) == "a TorchScript file":
        _refuse_file_access(spec, _texts(spec, "code/"), _NAMED_IN_CODE)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", Warning)
        try:
            return Network(torch.jit.load(spec.file, map_location="cpu").eval())  # type: ignore[no-untyped-call]
        except Exception as error:
            raise misplaced(spec, error) from error


def load_exported(spec: MemberSpec) -> Network:
    """Load the module of a torch.export.save file, with the batch sizes it was exported for.

    Raises MemberError: another kind of file; holds what would be unpickled, a library, or code.
    """
    if kind_of(spec.file) != "an exported program":
        raise misplaced(spec, ValueError("no graph in it"))
    _refuse_code(spec)
    try:
        with _only_weights(), _quiet():
            program = torch.export.load(spec.file)
    except pickle.UnpicklingError:
        raise refused(spec, "pickled tensors or constants") from None
    except Exception as error:
        raise misplaced(spec, error) from error
    options = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
    return Network(program.module(**options), *_admitted(program))


def _texts(spec: MemberSpec, part: str) -> list[str]:
    """Read the texts in the file's archive of which the name has this part: a folder, or an ending."""
    with zipfile.ZipFile(spec.file) as archive:
        names = [name for name in archive.namelist() if part in name and not name.endswith(".debug_pkl")]
        return [archive.read(name).decode("utf-8", "replace") for name in names]


def _refuse_file_access(spec: MemberSpec, texts: list[str], pattern: re.Pattern[str]) -> None:
    """Raise MemberError where a graph may read or write files, unless the member is trusted with that.

    texts  of all its modules and functions: some run while it is loaded, so that the file is searched beforehand
    """
    found = next(filter(None, map(pattern.search, texts)), None)
    if found is not None and "file_access" not in (spec.trust or ()):
        raise MemberError(
            f"member {spec.name}: {spec.file} may read or write files as it runs: it names {found['name']}",
            f"export it without; or, if you trust the file, write trust: [file_access] for member {spec.name}",
        )


def _refuse_code(spec: MemberSpec) -> None:
    """Raise MemberError where loading the file would run what lies in it."""
    with zipfile.ZipFile(spec.file) as archive:
        names = archive.namelist()
    texts = _texts(spec, ".json")  # of the graph, wherever a version of torch puts it
    _refuse_file_access(spec, texts, _NAMED_IN_GRAPH)
    if any("opaque_obj_" in name for name in names):
        raise refused(spec, "a pickled object")
    if any("aotinductor/" in name for name in names):
        raise MemberError(f"member {spec.name}: {spec.file} holds a compiled library", "save it with torch.export.save")
    for expression in re.findall(r'"expr_str"\s*:\s*("(?:[^"\\]|\\.)*")', "\n".join(texts)):
        if not _is_size(text := json.loads(expression)):
            raise MemberError(
                f"member {spec.name}: {spec.file} has code where a size belongs: {text[:60]}",
                "save it again with torch.export.save",
            )


_OF_A_SIZE = (
    *(ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def _is_size(text: str) -> bool:
    """Tell whether an expression is no more than arithmetic of symbols, as sympy prints it; it would run any other."""
    try:
        nodes = [*ast.walk(ast.parse(text.strip(), mode="eval"))]
    except (SyntaxError, ValueError, RecursionError):
        return False
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    plain = all(isinstance(node, _OF_A_SIZE) for node in nodes) and all(word.isidentifier() for word in words)
    return plain and not any(hasattr(builtins, name) or name.startswith("_") for name in names)


@contextlib.contextmanager
def _only_weights() -> Iterator[None]:
    """Forbid torch.export.load to unpickle what weights_only refuses; the environment alone can."""
    before = os.environ.get(_FORCED)
    os.environ[_FORCED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCED]
        else:
            os.environ[_FORCED] = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the traceback that torch logs beside its error, and its warning that what it read is not writable."""
    logger = logging.getLogger("torch.export")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            yield
    finally:
        logger.setLevel(before)


def _admitted(program: Any) -> tuple[int, int | None]:
    """Return the least and most rows of a batch, by the first axis of the first input; None where there is no most."""
    inputs = set(program.graph_signature.user_inputs)
    shapes = [n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder" and n.name in inputs]
    if not shapes or not len(shapes[0]):
        return 1, None
    size = shapes[0][0]
    if isinstance(size, int):
        return size, size
    bounds = program.range_constraints.get(size.node.expr)
    if bounds is None:
        return 1, None
    most = str(bounds.upper)
    return max(1, int(bounds.lower)), int(most) if most.isdigit() else None

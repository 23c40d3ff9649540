"""The file as a whole: what cannot be read is told, whatever it holds."""

from __future__ import annotations

import errno
import os
import re
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.configuration import FULL, HEAD, edited, edits, loaded, plain, told

from hpcens import config
from hpcens.errors import UsageError
from hpcens.specs import (
    MemberSpec,
    RunSpec,
)

# The file as a whole


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "run.yaml:1: is empty\n  → write a commented example to start from: hpcens init"),
        ("# nothing\n", "run.yaml:1: is empty"),
        ("\n- a\n", "run.yaml:2: the file must be a mapping of keys to values; for a commented example: hpcens init"),
        ("members", "run.yaml:1: the file must be a mapping"),
        ("~", "run.yaml:1: the file must be a mapping"),
        ("!!python/object:x {}", "run.yaml:1: is of the YAML type"),
        (b"a: 1\nb: \xff\xfe\n", "run.yaml:2: is not UTF-8 text\n  → save the file as UTF-8"),
        ("a: 1\nb: \x07", "run.yaml:2: holds a character that YAML does not allow"),
        ("a: b\n\tc: d", "run.yaml:2: is not YAML: while scanning for the next token found character '\\t'"),
        ("a: [b\nc: d", "run.yaml:2: is not YAML"),
        ("a: 1\nb: c: d", "run.yaml:2: is not YAML: mapping values are not allowed here\n  → check the indentation"),
        ("a: *b", "run.yaml:1: is not YAML: found undefined alias"),
        ("a: 1\n---\nb: 2", "run.yaml:2: is not YAML: expected a single document"),
        ('a: "\\UFFFFFFFF"', "run.yaml: is not YAML: "),
        ("%YAML 2.0\n---\na: 1", "run.yaml:1: is not YAML"),
        ("a: " + "[" * 2_000, "run.yaml: is nested too deeply\n  → flatten it"),
        ("a: " + "b" * 2**20, "run.yaml: is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(file: Path, text: str | bytes, says: str) -> None:
    assert told(file, text).startswith(says)


def test_a_byte_order_mark_is_no_mistake(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert config.load(file).member_names == ("a", "b")


def bomb(first: str, again: str) -> str:
    """Every level repeats the one before it nine times."""
    levels = [f"x{i}: &x{i} {again.replace('*', f'*x{i - 1}')}" for i in range(1, 12)]
    return "\n".join([f"x0: &x0 {first}", *levels])


@pytest.mark.parametrize(
    "text",
    [
        bomb("{k: lol}", "{a: *, b: *, c: *, d: *, e: *, f: *, g: *, h: *, i: *}"),
        "x0: &x0 " + "lol" * 10_000 + "\nx1: [" + "*x0, " * 100_000 + "]",
        "x0: &x0 {" + "lol" * 300 + ": 1}\nx1: [" + "*x0, " * 5_000 + "]",
    ],
    ids=["levels", "text", "keys"],
)
def test_aliases_that_explode_are_refused_at_once(file: Path, text: str) -> None:
    error = told(file, text)
    assert re.match(r"run\.yaml:\d+: .*aliases expand to more than 1048576 characters\n  → ", error)


def test_a_file_that_is_not_there_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(path: Path) -> str:
        with pytest.raises(UsageError) as caught:
            config.load(path)
        assert "hpcens init" in caught.value.remedy
        return caught.value.what

    assert says(file) == f"{file}: cannot be read: No such file or directory"
    assert says(file.parent) == f"{file.parent}: is a folder or a device, not a file"
    assert says(Path("/dev/zero")) == "/dev/zero: is a folder or a device, not a file"
    assert "cannot be read" in says(Path("n" * 300))
    assert "cannot be read" in says(Path("a\0b"))
    os.mkfifo(pipe := file.parent / "pipe")
    assert "not a file" in says(pipe)

    def refuse(*_: object) -> typing.NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    file.write_text(HEAD)
    monkeypatch.setattr(Path, "open", refuse)
    assert says(file) == f"{file}: cannot be read: Permission denied"


def test_merged_keys_yield_to_own_and_earlier_ones(file: Path) -> None:
    text = """\
members:
  - &a {name: a, factory: m:a, weights: a}
  - &b {name: b, factory: m:b, weights: b, arguments: {x: 1}}
  - name: c
    <<: [*a, *b]
    weights: c
"""
    assert loaded(file, text).members[2] == MemberSpec(
        name="c", factory="m:a", weights=file.parent / "c", arguments={"x": 1}
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits)
def test_a_damaged_file_is_refused_or_read_but_never_crashes(
    file: Path, edits: list[tuple[str, int, int, str]]
) -> None:
    data = edited(FULL, edits)
    file.write_bytes(data)
    try:
        spec = config.load(file)
    except UsageError as error:
        str(error).encode("utf-8")
        first, *rest = str(error).split("\n")
        assert all(line.startswith((f"{file}:", "  → ", "… and ")) for line in (first, *rest))
    else:
        assert repr(config.spec_from_json(config.spec_to_json(spec))) == repr(spec)
    assert file.read_bytes() == data


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(sorted({*RunSpec.__slots__, "odd"})), plain, max_size=4))
def test_any_tree_in_the_place_of_any_key_is_refused_or_read(file: Path, tree: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(HEAD) | tree, allow_unicode=True), "utf-8")
    try:
        config.load(file)
    except UsageError as error:
        assert str(error).startswith(str(file))  # noqa: PT017

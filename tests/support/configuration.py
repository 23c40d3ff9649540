"""Texts of run.yaml: whole ones, damaged ones, and what reading them gives or says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from hpcens import config
from hpcens.errors import UsageError
from hpcens.specs import (
    RunSpec,
)

HEAD = """\
members:
  - name: a
    factory: models:build
    weights: a.safetensors
  - name: b
    factory: models:build
    weights: /weights/b.safetensors
"""

FULL = """\
members:
  - &a
    name: a
    factory: models:build
    weights: a.safetensors
    trust: pickle
    inputs: [images, age]
    preprocess:
      - cast: float32
      - {normalize: {mean: [0.5], std: [0.25]}, input: age}
      - {call: models:prepare}
    precision: bfloat16
    select: 1
    classes: {kitty: cat, hound: dog, three: "3"}
    arguments: {depth: 50, widths: [1, 2.5, 1e-3], pretrained: false, note: "naïve", nothing: null}
    output: probabilities
    weight: 0.25
  - <<: *a
    name: b
    factory: package.models:Net.small
    weight: 1
dataset:
  inputs: {images: group/images, age: {path: table, field: age}}
  select: {start: 5, stop: 10}
  columns: [ids]
classes: [cat, dog, "3"]
rule:
  name: weighted
  space: probabilities
devices:
  cpu: {count: 2, cores: 4, memory: 4GiB}
  cuda: {count: all, memory: 2e9}
plan:
  planner: worst-fit
  batch_sizes: [64, 8, 16]
output:
  path: out/result.h5
  datasets: [prediction, top-2, members, mutual_information]
  dtype: float16
  compression: {name: gzip, level: 9}
bad_rows: mask
fsync_seconds: 0.5
"""


def loaded(file: Path, text: str) -> RunSpec:
    file.write_text(text, "utf-8")
    return config.load(file)


def told(file: Path, text: str | bytes) -> str:
    """What load says of the text, the folder taken off every line."""
    file.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    with pytest.raises(UsageError) as caught:
        config.load(file)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(file), file.name)


# Between processes

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts
plain = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


# Whatever the file holds

ODD = [
    "&a", "*a", "<<: *a", "<<:", "!!binary x", "!!python/name:os.system", "!t", "? ", "- ", ": ", "[", "]", "{", "}",
    "'", '"', "|", ">", "%YAML 1.1", "---", "...", "\t", "#", "\ufeff", "\x85", "\u2028", "~", ".inf", ".nan", "-0",
    "1e999", "0o7", "1:2", "=", "9" * 5000, "0x" + "f" * 300, '"\\UFFFFFFFF"', '"\\ud800"', '"\\0"', "yes", "[[[[]]]]",
    "{a: {a: {}}}", "members:", "rule: weighted", "devices: {cpu: &a [*a]}", "classes: 99999", "memory: 1e99 TiB", "🦆",
]  # fmt: skip
edits = st.lists(
    st.tuples(
        st.sampled_from(["delete", "double", "line", "value", "key", "swap", "indent", "bytes"]),
        st.integers(0, 40),
        st.integers(0, 40),
        st.sampled_from(ODD) | st.text(max_size=12),
    ),
    min_size=1,
    max_size=4,
)


def edited(text: str, edits: list[tuple[str, int, int, str]]) -> bytes:
    lines = text.splitlines()
    raw: list[tuple[int, bytes]] = []
    for kind, one, other, odd in edits:
        i, j = one % len(lines), other % len(lines)
        key, colon, value = lines[i].partition(":")
        match kind:
            case "delete":
                lines[i : i + 1 + other % 3] = [""]
            case "double":
                lines.insert(j, lines[i])
            case "line":
                lines[i] = odd
            case "value":
                lines[i] = f"{key}: {odd}"
            case "key":
                lines[i] = f"{key[: len(key) - len(key.lstrip(' -'))]}{odd}{colon}{value}"
            case "swap":
                lines[i], lines[j] = f"{key}:{lines[j].partition(':')[2]}", f"{lines[j].partition(':')[0]}:{value}"
            case "indent":
                lines[i] = "  " + lines[i]
            case "bytes":
                raw.append((one * 20 + other, odd.encode("utf-8", "surrogatepass")[::-1]))
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    for at, odd_bytes in raw:
        data = data[:at] + odd_bytes + data[at:]
    return data

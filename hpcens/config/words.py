"""Words: whether text of the YAML is what its key takes."""

from __future__ import annotations

import re
import shlex
from keyword import iskeyword
from typing import get_args

from hpcens.config.slurm_checks import expanded_by_shells
from hpcens.specs import OutputName, RuleName, ViewName

TIME = re.compile(r"\d{1,6}|\d{1,6}:\d\d(:\d\d)?|\d{1,4}-\d{1,2}(:\d\d(:\d\d)?)?", re.ASCII)


def is_name(name: str) -> bool:
    """Tell whether a member or a file can be called so."""
    fits = 0 < len(name) <= 100 and name.isprintable() and name == name.strip()
    return fits and "/" not in name and name not in (".", "..")


def is_import_path(factory: str) -> bool:
    """Tell whether it is one: package.module:callable."""
    module, _, attribute = factory.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    return all(part.isidentifier() and not iskeyword(part) for part in parts)


def is_command(text: str) -> bool:
    """Tell whether nodes find this command as it is written: no shell expands any of it."""
    try:
        words = shlex.split(text)
    except ValueError:  # a quote is not closed
        return False
    return bool(words) and words[0].find("/") < 1 and not any(map(expanded_by_shells, words))


def is_rule(name: str) -> bool:
    """Tell whether it is a rule of hpcens, or the import path of one."""
    return name in get_args(RuleName) or (":" in name and is_import_path(name))


def is_view(name: str) -> bool:
    """Tell whether it is a view of hpcens, or the import path of one."""
    return name in get_args(ViewName) or (":" in name and is_import_path(name))


def is_output(name: str) -> bool:
    """Tell whether a result can hold an output of this name."""
    return name in get_args(OutputName) if "-" not in name else bool(re.fullmatch("top-[1-9][0-9]{0,5}", name))


def is_permutation(layout: str) -> bool:
    """Tell whether it is one like NHWC->NCHW: the same letters, each once, and the first axis, that of rows, stays."""
    old, _, new = layout.partition("->")
    return old.isalpha() and len(set(old)) == len(old) and sorted(old) == sorted(new) and old[0] == new[0]

"""The house as its imports draw it: rooms, the arrows between them, and what breaks the order.

    python tests/support/house.py [CHECKOUT]         figures
    python tests/support/house.py --walk VERB …      the modules one command enters, in order

A room is a folder or a module directly below hpcens/; an arrow is an import, wherever it stands in a file.
"""

import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]


class House:
    """One checkout's imports. arrows: (importing module, imported module), names relative to hpcens."""

    def __init__(self, root=ROOT):
        self.package = root / "hpcens"
        self.modules = {}
        for path in sorted(self.package.rglob("*.py")):
            parts = path.relative_to(self.package).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if name not in ("", "__main__"):
                self.modules[name] = path
        self.arrows = set()
        self.deferred = 0
        for name, path in self.modules.items():
            self._read(name, ast.parse(path.read_text()))

    def _read(self, name, tree):
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            targets = set(self._targets(node))
            self.arrows |= {(name, target) for target in targets}
            self.deferred += bool(targets) and id(node) in inside

    def _targets(self, node):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("hpcens."):
                    yield alias.name.removeprefix("hpcens.")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hpcens":
            module = node.module.partition(".")[2]
            for alias in node.names:
                whole = f"{module}.{alias.name}".lstrip(".")
                if whole in self.modules:
                    yield whole
                elif module:
                    yield module

    @property
    def rooms(self):
        return sorted({room(name) for name in self.modules})

    @property
    def crossing(self):
        """Arrows between files of different rooms."""
        return {(a, b) for a, b in self.arrows if room(a) != room(b)}

    @property
    def between(self):
        """Room → rooms it imports."""
        found = defaultdict(set)
        for a, b in self.crossing:
            found[room(a)].add(room(b))
        return found

    @property
    def floors(self):
        """Room → its floor, 1 being the lowest; endless recursion where rooms import each other."""
        between = self.between
        known = {}

        def floor(name):
            if name not in known:
                known[name] = 1 + max((floor(below) for below in between[name]), default=0)
            return known[name]

        return {name: floor(name) for name in self.rooms}

    def figures(self):
        between = self.between
        most = max(self.rooms, key=lambda name: len(between[name]))
        flat = [name for name in self.rooms if self.modules[name].name != "__init__.py"]
        lines = sum(len(path.read_text().splitlines()) for path in self.modules.values())
        names = sum(len(public(path)) for path in self.modules.values())
        try:
            floors = max(self.floors.values())
        except RecursionError:
            floors = "circles"
        return {
            "rooms": len(self.rooms),
            "floors": floors,
            "arrows between rooms": sum(map(len, between.values())),
            "flat modules": len(flat),
            "file arrows that cross rooms": len(self.crossing),
            "rooms that one room imports, most": f"{len(between[most])} ({most})",
            "imports inside functions": self.deferred,
            "modules": len(self.modules),
            "lines": lines,
            "public names": names,
        }


def room(name):
    return name.partition(".")[0]


def public(path):
    """Functions, classes and constants of a module that others may use."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in found if not name.startswith("_")]


def walk(arguments):
    """Run a command; the modules of hpcens that its process enters, in order, each visit once."""
    from hpcens.cli import main

    visits = []

    def watch(frame, event, _):
        if event == "call":
            name = frame.f_globals.get("__name__", "")
            if name.startswith("hpcens.") and (not visits or visits[-1] != name):
                visits.append(name)

    sys.setprofile(watch)
    try:
        code = main(arguments)
    finally:
        sys.setprofile(None)
    return code, [name.removeprefix("hpcens.") for name in visits]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--walk"]:
        ended, entered = walk(sys.argv[2:])
        print(f"exit code {ended}; {len(entered)} visits of {len(set(entered))} modules, in order of the first:")
        print("\n".join(dict.fromkeys(entered)))
    else:
        for figure, value in House(*map(Path, sys.argv[1:])).figures().items():
            print(f"{figure:36} {value}")

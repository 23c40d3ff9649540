"""Entry: begin a process with the working folder kept off the path that Python imports from.

`python -m` and `python -c` look into the working folder before all others, and an empty entry of PYTHONPATH names it
too: a file there that is called as a library is, perhaps another person's, would run in the library's place. So
whatever hpcens starts, it starts through this file, which takes the place of `python`:

    python hpcens/entry.py -m MODULE [ARGUMENT…]

Another Python, in a container for one, finds its own hpcens by itself: it is told to begin here by `-c`.

It is the first that a process runs, so it imports only what Python itself has loaded by then.
"""

import os
import sys

# with -c, too, the working folder comes first, as an empty entry
_ELSEWHERE = "import sys; sys.path[:] = filter(None, sys.path); from hpcens.entry import main; main()"


def leave_out_working_folder() -> None:
    """Take the working folder off the path of this process, and off that of all it starts."""
    sys.path[:] = [entry for entry in sys.path if not _is_working_folder(entry)]
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in entries if not _is_working_folder(entry)]
    if kept:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    else:
        os.environ.pop("PYTHONPATH", None)
    os.environ["PYTHONSAFEPATH"] = "1"  # Python 3.11 and later: no working folder for `-m` of other people's either


def command(module: str, *arguments: str) -> list[str]:
    """Return the words of the command that runs a module in a process of its own."""
    return [sys.executable, os.path.abspath(__file__), "-m", module, *arguments]


def command_of(python: list[str], module: str, *arguments: str) -> list[str]:
    """Return the words of the command that runs a module of another Python's own hpcens.

    python  the words that run that Python
    """
    return [*python, "-c", _ELSEWHERE, "-m", module, *arguments]


def _is_working_folder(entry: str) -> bool:
    """Whether an entry of the path is the working folder, unless Python's own modules lie there, or hpcens does.

    What lies beside hpcens could have been hpcens.
    """
    try:
        folder = os.path.realpath(entry)  # that of an empty entry is the working folder
        own = tuple(os.path.join(os.path.realpath(prefix), "lib") for prefix in (sys.prefix, sys.base_prefix))
        home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
        return folder == os.path.realpath(os.getcwd()) and folder != home and not folder.startswith(own)
    except OSError:  # there is no working folder any more
        return entry in ("", os.curdir)


def main() -> None:
    """Run the module that the arguments of this process name."""
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != os.path.realpath(own)]
    leave_out_working_folder()
    # the hpcens that started this process, wherever it lies and whatever others are on the path
    sys.path.insert(0, os.path.dirname(own))
    __import__("hpcens")
    del sys.path[0]
    runpy = __import__("runpy")
    words = sys.argv[sys.argv.index("-m") + 1 :]
    sys.argv[:] = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

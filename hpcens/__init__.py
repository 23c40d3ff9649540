"""Score large HDF5 datasets with ensembles of PyTorch networks, over MPI.

In Python, as from the command line (`hpcens help python` has the guide):

  >>> config = hpcens.load_config("hpcens.yaml")
  >>> hpcens.plan("dataset.h5", config)
  >>> result = hpcens.run("dataset.h5", config)
  >>> result["prediction"][:10]

Every folder is a noun; imports only go to lines further down.

    cli          the command line, one module a family of verbs
    api          the same in Python: plan, run, submit, open a result
    worlds       files, or blocks of a dataset, scored by whoever claims them
    launch       start ranks, here or through Slurm, each with a witness
    scoring      one start of a run, as one rank lives it
    reports      what people read: text, pages, progress
    planning     from profiles to a plan
    profiling    measure members, links and disks, and keep the figures
    checks       refuse what cannot work before anything starts
    evaluation   what a result is worth against labels; its sums are pure
    combining    from members' outputs to what is stored
    runtimes     ways to execute a member
    engine       the devices that execute members: found, opened, fed
    result       the file that is written: durable, journalled, finished
    dataset      the files that are read: selected, decompressed
    transports   carry messages, over MPI or in virtual time
    roles        who decides what: reader, reducer, worker; no I/O
    allocation   allocation matrices and their bounds
    members      networks from their files
    config       run.yaml, read and checked
    rules        combine members' outputs; pure
    units        files, or blocks of a dataset: the list, who works on which
    runs         everything of one run on disk but its result
    vocabulary   plain data: devices, segments, messages, profiles, plans
    scheduler    Slurm's own commands, each with a time limit
    specs        what a user asks for
    usercode     code of the user's own: found, imported, digested
    arrays       memory that outlives a pass
    guide        the user's guide, a page a topic: hpcens help
    processes    which process lives; questions put to one of their own
    cache        what can be made again, kept for the next start
    files        written whole or not at all
    ownership    whose a file is: only one's own are trusted
    errors       exit codes, and messages that say what to do
    shell        words for shells and terminals: quoted, escaped, refused
    entry        how a process begins: the working folder is kept off its path
"""

__version__ = "0.1.0"

# Not from typing: what is imported here could be a file of the working folder, which is on the path until `entry` is.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from hpcens.api import Calibrated as Calibrated
    from hpcens.api import Evaluation as Evaluation
    from hpcens.api import Handle as Handle
    from hpcens.api import Plan as Plan
    from hpcens.api import Result as Result
    from hpcens.api import Selection as Selection
    from hpcens.api import attach as attach
    from hpcens.api import calibrate as calibrate
    from hpcens.api import combine as combine
    from hpcens.api import evaluate as evaluate
    from hpcens.api import export as export
    from hpcens.api import load_config as load_config
    from hpcens.api import open_result as open  # noqa: A004, F401
    from hpcens.api import plan as plan
    from hpcens.api import run as run
    from hpcens.api import select as select
    from hpcens.api import submit as submit
    from hpcens.api import verify as verify
    from hpcens.errors import DataError as DataError
    from hpcens.errors import FingerprintMismatch as FingerprintMismatch
    from hpcens.errors import HpcensError as HpcensError
    from hpcens.errors import Incomplete as Incomplete
    from hpcens.errors import UsageError as UsageError
else:
    # name → where it is, loaded by the first who asks for it: `import hpcens` loads nothing else
    _API = {
        "Calibrated": "api.Calibrated",
        "Evaluation": "api.Evaluation",
        "Handle": "api.Handle",
        "Plan": "api.Plan",
        "Result": "api.Result",
        "Selection": "api.Selection",
        "attach": "api.attach",
        "calibrate": "api.calibrate",
        "combine": "api.combine",
        "evaluate": "api.evaluate",
        "export": "api.export",
        "load_config": "api.load_config",
        "open": "api.open_result",
        "plan": "api.plan",
        "run": "api.run",
        "select": "api.select",
        "submit": "api.submit",
        "verify": "api.verify",
        "DataError": "errors.DataError",
        "FingerprintMismatch": "errors.FingerprintMismatch",
        "HpcensError": "errors.HpcensError",
        "Incomplete": "errors.Incomplete",
        "UsageError": "errors.UsageError",
    }
    __all__ = ["__version__", *_API]

    def __getattr__(name):
        if name not in _API:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # by then the path is in order

        module, _, attribute = _API[name].partition(".")
        return getattr(import_module(f"{__name__}.{module}"), attribute)

    def __dir__():
        return sorted({*globals(), *_API})

"""Measure members, links and disks, and keep the figures.

Members are measured in `bench`, which imports torch and is imported by `measure_on` alone.
"""

from hpcens.profiling.book import ProfileBook
from hpcens.profiling.groups import group_key, profile_key
from hpcens.profiling.io_survey import IoSurvey, survey_io
from hpcens.profiling.local_io import inspect_io, measure_io, sample, spread
from hpcens.profiling.measuring import MissingRates, measure_on
from hpcens.profiling.needs import Needs, package_path, reasons
from hpcens.profiling.precisions import JUDGED, rivals, shortfall
from hpcens.profiling.sizes import rows_to_sample

__all__ = [
    "JUDGED",
    "IoSurvey",
    "MissingRates",
    "Needs",
    "ProfileBook",
    "group_key",
    "inspect_io",
    "measure_io",
    "measure_on",
    "package_path",
    "profile_key",
    "reasons",
    "rivals",
    "rows_to_sample",
    "sample",
    "shortfall",
    "spread",
    "survey_io",
]

"""Options of the verbs that hold a result against labels. Light: every start of the command line reads it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

# Adds a verb: its name, the function that does it as MODULE.FUNCTION of this folder, and what it does in a line.
AddVerb = Callable[[str, str, str], argparse.ArgumentParser]


def add_judging(add: AddVerb) -> None:
    """Add the verbs that hold a result against labels."""
    evaluate = add("evaluate", "judging.evaluate", "hold a result against labels: each member and the ensemble")
    select = add("select", "judging.select", "choose members and weights by labels, for what they cost; write the YAML")
    labels = "labels, a row of the dataset or of the result each; without FILE they are in the dataset itself"
    groups = "a column: rows that share its value depend on each other, and intervals draw them together"
    fitted = "fit a temperature, sets of classes or intervals of values by labels; write the file that runs apply"
    calibrate = add("calibrate", "judging.calibrate", fitted)
    for verb in (evaluate, select, calibrate):
        verb.add_argument("result", type=Path, metavar="PREDICTIONS.H5")
        source = verb.add_mutually_exclusive_group(required=True)
        source.add_argument("--labels", metavar="FILE:/PATH", help=labels)
        source.add_argument("--labels-column", metavar="NAME", help="a column that passed through from the dataset")
        verb.add_argument("--groups", metavar="NAME", help=groups)
        verb.add_argument("--ignore", type=float, metavar="VALUE", help="a value that stands for no label; nan too")
        verb.add_argument("--json", action="store_true", help="print the figures as JSON")
        verb.add_argument("--html", type=Path, metavar="PAGE.HTML", help="write them as a web page")
    top = "K of top-K accuracy (default: the result's, or 5)"
    evaluate.add_argument("--top", type=positive, metavar="K", help=top)
    evaluate.add_argument("--ensemble-only", action="store_true", help="do not ask for the members' outputs")
    evaluate.add_argument("-o", "--output", type=Path, metavar="EVALUATION.JSON", help="write the figures to a file")
    by = "what to choose by (default: log_loss of classes, squared_error of values)"
    select.add_argument("--by", choices=("log_loss", "squared_error"), help=by)
    method = "take members with replacement, or find the best weights (default: greedy)"
    select.add_argument("--method", choices=("greedy", "weights"), default="greedy", help=method)
    holdout = "share of the rows, or groups, to judge on; the others are chosen on (default: 0.5)"
    dealt = select.add_mutually_exclusive_group()
    dealt.add_argument("--holdout", type=float, metavar="SHARE", help=holdout)
    by_column = "instead a column: 1 where rows are chosen on, 0 where they are judged on"
    dealt.add_argument("--split", metavar="NAME", help=by_column)
    budget = "device-hours that the members may take together, for the rows of the result"
    select.add_argument("--budget", type=float, metavar="HOURS", help=budget)
    chosen = "the YAML to go on with: run -c, combine -c"
    select.add_argument("-o", "--output", type=Path, required=True, metavar="SELECTED.YAML", help=chosen)
    coverage = "share of new rows whose truth sets of classes, or intervals of values, are to hold, for example 0.9"
    calibrate.add_argument("--coverage", type=float, metavar="SHARE", help=coverage)
    parts = calibrate.add_mutually_exclusive_group()
    judged = "share of the rows, or groups, to judge on; the others are fitted on (default: 0.5); 0: judge in sample"
    parts.add_argument("--holdout", type=float, metavar="SHARE", help=judged)
    split = "instead a column: 1 where rows are fitted on, 0 where they are judged on"
    parts.add_argument("--split", metavar="NAME", help=split)
    calibrate.add_argument("--seed", type=int, default=0, metavar="N", help="deal rows to other parts (default: 0)")
    file = "the file that calibration: of a YAML names"
    calibrate.add_argument("-o", "--output", type=Path, required=True, metavar="CALIBRATION.JSON", help=file)


def positive(text: str) -> int:
    """Return a number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number

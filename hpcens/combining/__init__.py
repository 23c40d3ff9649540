"""From members' outputs to what is stored."""

from hpcens.combining.combiner import Combiner, tried_combiner
from hpcens.combining.digests import rule_digests, rule_modules
from hpcens.combining.masking import masked_rows, valid
from hpcens.combining.recombination import Recombination
from hpcens.combining.request import require_same_members, under_rule
from hpcens.combining.rule_process import try_rule

__all__ = [
    "Combiner",
    "Recombination",
    "masked_rows",
    "require_same_members",
    "rule_digests",
    "rule_modules",
    "tried_combiner",
    "try_rule",
    "under_rule",
    "valid",
]

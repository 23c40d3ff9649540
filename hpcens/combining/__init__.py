"""From members' outputs to what is stored."""

from hpcens.combining.combiner import Combiner
from hpcens.combining.digests import rule_digests
from hpcens.combining.masking import masked_rows, valid
from hpcens.combining.recombination import Recombination
from hpcens.combining.request import require_same_members, under_rule

__all__ = [
    "Combiner",
    "Recombination",
    "masked_rows",
    "require_same_members",
    "rule_digests",
    "under_rule",
    "valid",
]

"""From members' outputs to what is stored."""

from hpcens.combining.combiner import Combiner
from hpcens.combining.masking import masked_rows, valid
from hpcens.combining.rule_code import rule_digests

__all__ = ["Combiner", "masked_rows", "rule_digests", "valid"]

"""What finding out how a run takes less time may take itself, and from how many rows on that is enough."""

from __future__ import annotations

import math

# Of the time a run will take, what may be spent on finding out how it takes less.
SHARE_OF_RUN = 0.05
# Of a short run: measuring for as long as it takes would gain nothing.
_SHARE_OF_SHORT_RUN = 0.25


def budget(rows: int, speed: float, seconds: float) -> float:
    """Return seconds that may be spent on a member.

    rows     of the dataset
    speed    rows/s of the member as it is known to run
    seconds  that are spent on a member where nothing is gained by more
    """
    alone = rows / speed
    return max(min(seconds, _SHARE_OF_SHORT_RUN * alone), SHARE_OF_RUN * alone)


def pays_from(needed: float, speed: float, seconds: float) -> int:
    """Return the least number of rows whose budget is what is needed, in seconds; speed, seconds: as of the budget."""
    return math.ceil(needed * speed / (_SHARE_OF_SHORT_RUN if needed <= seconds else SHARE_OF_RUN))

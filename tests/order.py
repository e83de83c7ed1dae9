"""The order in which workers of one run take the files of tests: what takes longest first, so that none waits at the end.

``--dist loadfile --no-loadscope-reorder`` gives a file to the next worker that is free, in the order of collection: a
file stays on one worker, so that what its tests share is made once. What a file takes is read from
``tests/durations.json``, see `tests.fast_part`; one that is not in it yet counts as cheap and comes last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tests.fast_part import Seconds

__all__ = ["longest_first"]


def longest_first(files: Iterable[str], seconds: Seconds) -> list[str]:
    """Return files in the order of what their tests and the fixtures these share take, all of their parameters."""
    cost: defaultdict[str, float] = defaultdict(float)
    for name, taken in [*seconds.tests.items(), *seconds.fixtures.items()]:
        cost[name.partition("::")[0]] += taken
    return sorted(set(files), key=lambda file: (-cost[file], file))

"""How far long work is: its steps by name, told to whoever shows them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rtserve.threads import require_wanted

__all__ = ["Stages", "Tell", "Together"]

Tell = Callable[[int, int, str], None]
"""``(done, total, what)``: how many steps of how many are done, and what is being done now."""


class Stages:
    """Steps of one piece of work, told of as each begins.

    Parameters
    ----------
    tell : callable, optional
        Told of every step; nobody by default.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        self._tell = tell
        self._total = self._begun = 0

    def expect(self, steps: int) -> None:
        """Count on so many more steps."""
        self._total += steps

    def begin(self, what: str) -> None:
        """Begin a step; the one before it is done."""
        self._begun += 1
        self.say(what)

    def say(self, what: str) -> None:
        """Tell more closely what the step that has begun is at."""
        if self._tell is not None:
            self._tell(max(0, min(self._begun, self._total) - 1), self._total, what)

    def skip(self, begun: int) -> None:
        """Count on from a number of begun steps: some of those before it did not come."""
        self._begun = max(self._begun, begun)

    def last(self, what: str) -> None:
        """Begin the last step, whatever became of those before it."""
        self.skip(self._total - 1)
        self.begin(what)

    @property
    def begun(self) -> int:
        """How many steps have begun."""
        return self._begun


class Together:
    """Several pieces of work of one kind, done side by side and told of as one.

    Parameters
    ----------
    what : str
        What they are.
    pieces : int
        How many; one that has not said how long it is counts as long as the longest that has.
    tell : callable, optional
        Told of the sum.
    """

    def __init__(self, what: str, pieces: int, tell: Tell | None = None) -> None:
        self._what, self._pieces, self._tell = what, pieces, tell
        self._known: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def of(self, piece: int) -> Callable[[int, int], None]:
        """Return what is called with (done, total) of one piece, in whatever thread; one that is unwanted ends there."""

        def say(done: int, total: int) -> None:
            require_wanted()
            with self._lock:
                self._known[piece] = (done, total)
                if self._tell is None:
                    return
                totals = [total for _, total in self._known.values()]
                missing = max(0, self._pieces - len(totals)) * max(totals)
                self._tell(sum(done for done, _ in self._known.values()), sum(totals) + missing, self._what)

        return say

"""`Challenge`: one thing that a contest asks for, how its windows come and which answers its scorer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rtserve.errors import ProfileError
from rtserve.submission.profile_parts import KitTrack, Phase, Signal, Windows

__all__ = ["Challenge", "in_phases", "require_known"]

COUPLINGS = ("fail", "warn", "allow")
IMPOSSIBLE = ("fail", "warn")
DRIVEN = 8
"""Most windows that a check gives at once, where the contest's own batches are larger."""


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """One thing that is predicted.

    Parameters
    ----------
    key : str
        ``"1"``, ``"2"``, ...: what recipes and manifests call it.
    call : str
        The method that gives its network.
    target : str
        What is predicted, as in `rtserve.spec.OutputSpec`.
    weight : float
        Its share of the overall score.
    output : tuple of str
        Shape per window batch: ``("B", "1")``; letters stand for any size.
    accepts : tuple of tuple of str
        Other shapes that the scorer reads as well.
    nearest : bool
        Whether a coarser last axis is brought to the samples of the windows, the last that had begun for each.
    signal : Signal or None
        Its windows, where they are its own; the profile's otherwise.
    plausible : tuple of float
        Range that the mean prediction lies in when unit and scaling are right; empty where not known.
    possible : tuple of float
        Range outside of which no answer has a meaning; empty where there is none.
    impossible : str
        What an answer outside of it is: ``"fail"``, or ``"warn"`` where the scorer reads it all the same.
    spread : float
        Standard deviation of the target, 0 where not known.
    streaming : bool
        Whether windows arrive one by one, each stream on its own copy of the network.
    batch : int
        Windows that the scorer gives at once; a smaller last batch may come, and other sizes where no more is promised.
    coupling : str
        What a prediction that depends on its batch mates is: ``"fail"``, ``"warn"``, or ``"allow"``.
    phases : dict of str to Phase
        What is different in other phases than the contest's first.
    windows : Windows or None
        How many windows the contest scores, where that can be said.
    metric : str
        What it is scored by, as `rtserve.measure.metrics.parse_metric` reads it; empty where that is not known.
    meta : dict
        What the scorer tells a solver about this challenge besides the signal.
    electrodes : bool
        Whether its channels are EEG electrodes: meta then names them as such.
    kit : KitTrack
        Where it is in the contest's own kit.
    """

    key: str
    call: str
    target: str = ""
    weight: float = 1.0
    output: tuple[str, ...] = ("B", "1")
    accepts: tuple[tuple[str, ...], ...] = ()
    nearest: bool = False
    signal: Signal | None = None
    plausible: tuple[float, ...] = ()
    possible: tuple[float, ...] = ()
    impossible: str = "fail"
    spread: float = 0.0
    streaming: bool = False
    batch: int = 1
    coupling: str = "warn"
    phases: dict[str, Phase] = field(default_factory=dict)
    windows: Windows | None = None
    metric: str = ""
    meta: dict[str, int] = field(default_factory=dict)
    electrodes: bool = False
    kit: KitTrack = field(default_factory=KitTrack)

    @property
    def single(self) -> bool:
        """Whether it answers one number or class per window."""
        return all(size == "1" for size in self.output[1:])

    @property
    def size(self) -> int:
        """Windows that a check gives it at once."""
        return min(self.batch, DRIVEN)

    def reads(self, shape: Sequence[int]) -> bool:
        """Whether the scorer can read an answer of this shape to `size` windows; letters stand for any length."""

        def fits(wanted: tuple[str, ...]) -> bool:
            sizes = (self.size, *(int(name) if name.isdigit() else 0 for name in wanted[1:]))
            return len(shape) == len(wanted) and all(a in (0, b) for a, b in zip(sizes, shape, strict=True))

        return any(fits(wanted) for wanted in (self.output, *self.accepts))


def in_phases(challenge: Challenge, phases: Sequence[str]) -> Challenge:
    """Return a challenge as the last of some phases has it: each changes what the one before it left."""
    for phase in phases:
        change = challenge.phases.get(phase)
        if change is not None:
            challenge = replace(
                challenge,
                signal=change.signal or challenge.signal,
                meta=challenge.meta | change.meta,
                possible=change.possible or challenge.possible,
            )
    return challenge


def require_known(challenge: Challenge, where: str) -> None:
    """Raise `ProfileError` where a challenge's `coupling` or `impossible` is none of the words there are."""
    for key, value, known in (
        ("coupling", challenge.coupling, COUPLINGS),
        ("impossible", challenge.impossible, IMPOSSIBLE),
    ):
        if value not in known:
            raise ProfileError(
                f"{where}: challenge {challenge.key} has {key} {value!r}", hint=f"one of {', '.join(known)}"
            )

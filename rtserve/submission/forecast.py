"""How long the contest's windows will take: from the seconds of single calls to minutes with an interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import RtserveError
from rtserve.submission.drive import Drive
from rtserve.submission.profile import Profile, Windows

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = ["Forecast", "beside_bench", "of_drive"]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Time to score one challenge, window by window.

    Parameters
    ----------
    challenge : str
        Its key.
    per_window_us : float
        Median time of one call, one thread, in microseconds.
    windows : Windows or None
        How many there are, where that can be said.
    seconds, low, high : float
        For all windows: mean cost times the best count, and bounds over both the calls and the count; 0 when unknown.
    limit : float
        The contest's limit in seconds, 0 when unknown.
    """

    challenge: str
    per_window_us: float
    windows: Windows | None
    seconds: float
    low: float
    high: float
    limit: float

    @property
    def known(self) -> bool:
        """Whether the number of windows is known."""
        return self.windows is not None

    def sentence(self) -> str:
        """Return the forecast in one line."""
        each = f"{self.per_window_us:.0f} us a window"
        if self.windows is None:
            per_10k = self.per_window_us * 1e4 / 6e7
            holds = f" ({per_10k * 60 / self.limit:.2g} of the limit)" if self.limit else ""
            return f"{each}, {per_10k:.2g} min per 10,000 windows{holds}; how many there are is not published"
        share = f", {self.seconds / self.limit:.0%} of the limit" if self.limit else ""
        minutes = f"{self.seconds / 60:.2g} min [{self.low / 60:.2g}, {self.high / 60:.2g}]"
        return f"{minutes} for about {self.windows.count} windows ({each}, one thread here){share}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "challenge": self.challenge,
            "per_window_us": self.per_window_us,
            "windows": self.windows.count if self.windows else None,
            "windows_source": self.windows.source if self.windows else None,
            "minutes": self.seconds / 60 if self.windows else None,
            "minutes_interval": [self.low / 60, self.high / 60] if self.windows else None,
            "share_of_limit": self.seconds / self.limit if self.windows and self.limit else None,
        }


def of_drive(profile: Profile, drive: Drive) -> list[Forecast]:
    """Return a forecast for every challenge whose windows were timed.

    The interval joins the 5th and 95th percentile of the bootstrapped mean of the timed calls with the bounds of the
    number of windows.
    """
    made = []
    for challenge in profile.challenges:
        event = drive.first("windows", challenge.key)
        if event is None or not event.get("ok") or len(event["seconds"]) < 2:
            continue
        calls = np.asarray(event["seconds"][1:])
        rng = np.random.default_rng(0)
        means = rng.choice(calls, (500, calls.size)).mean(axis=1)
        low, high = np.quantile(means, (0.05, 0.95))
        windows = challenge.windows
        made.append(
            Forecast(
                challenge=challenge.key,
                per_window_us=float(np.median(calls)) * 1e6,
                windows=windows,
                seconds=float(calls.mean()) * windows.count if windows else 0.0,
                low=float(low) * windows.low if windows else 0.0,
                high=float(high) * windows.high if windows else 0.0,
                limit=profile.limits.seconds,
            )
        )
    return made


def beside_bench(forecasts: Sequence[Forecast], graphs: Iterable[tuple[str, Graph]]) -> Iterator[str]:
    """Yield for every (challenge, graph inside) what it costs where `rtserve bench` times it, beside what will run."""
    from rtserve.submission.route_times import graph_us

    cost = {made.challenge: made.per_window_us for made in forecasts}
    for key, graph in graphs:
        if key not in cost:
            continue
        try:
            benched = graph_us(graph)
        except RtserveError:  # whether it can be run is asked by the rules
            continue
        yield (
            f"challenge {key}: {cost[key]:,.0f} us a window by the zip, one thread here; its graph in onnxruntime, where"
            f" rtserve bench times it: {benched:,.0f} us"
        )

"""One call per hop, as a live loop makes them: lateness, jitter, the longest answers, and missed deadlines.

Calls back to back hide a stall: while one is long, none of the others is late. Here every call has a time at which it
is due, and its answer is counted from then, so whatever delays the loop, within a call or between two, shows in every
answer that it delays (Tene's "coordinated omission").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["WARM_CALLS", "HopTimes", "stream"]

STALL_US = 2000.0
"""An answer this much later than the median is a stall, or one twice the median where that is longer."""
_SPIN_NS = 1_500_000
WARM_CALLS = 5
"""Made before the first that is timed."""


@dataclass(frozen=True, kw_only=True)
class HopTimes:
    """Raw times of a stream of calls.

    Parameters
    ----------
    hop_ms : float
        Between two due times: also each call's deadline.
    late_us : ndarray, (n_hops,)
        How late each call began.
    call_us : ndarray, (n_hops,)
        How long it took.
    """

    hop_ms: float
    late_us: np.ndarray
    call_us: np.ndarray

    @property
    def answer_us(self) -> np.ndarray:
        """From when each call was due to its end, (n_hops,) microseconds."""
        total: np.ndarray = self.late_us + self.call_us
        return total

    @property
    def stalled(self) -> np.ndarray:
        """Which answers are a stall's: the call's own, and those behind it that it delays; (n_hops,) bool."""
        middle = float(np.median(self.answer_us))
        found: np.ndarray = self.answer_us > max(middle + STALL_US, 2 * middle)
        return found

    def summary(self) -> dict[str, Any]:
        """Return median, jitter, p99.9, misses and stalls; intervals are of 95 %."""
        answer = self.answer_us
        missed = int(np.sum(answer > 1e3 * self.hop_ms))
        middle = float(np.median(answer))
        stalled = self.stalled
        low, high = share_ends(missed, len(answer))
        return {
            "hops": len(answer),
            "answer_us": {"p50": middle, "p99.9": quantile_ends(answer, 0.999), "max": float(answer.max())},
            "jitter_us": float(np.std(answer)),
            "late_us": {"p50": float(np.median(self.late_us)), "max": float(self.late_us.max())},
            "misses": {"count": missed, "share": missed / len(answer), "low": low, "high": high},
            "stalls": {"count": int(stalled.sum()), "first": int(np.argmax(stalled)) if stalled.any() else None},
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        s = self.summary()
        tail, misses, stalls = s["answer_us"]["p99.9"], s["misses"], s["stalls"]
        above = f"{tail['high']:.0f}" if tail["high"] is not None else "not known: too few hops"
        out = [
            f"  a call every {self.hop_ms:g} ms, {s['hops']} times: answer p50 {s['answer_us']['p50']:.0f} us,"
            f" jitter (std) {s['jitter_us']:.0f} us, p99.9 {tail['value']:.0f} us [{tail['low']:.0f}, {above}],"
            f" longest {s['answer_us']['max']:.0f} us",
            f"  {misses['count']} of {s['hops']} calls miss the {self.hop_ms:g} ms hop:"
            f" {misses['share']:.2%} [{misses['low']:.2%}, {misses['high']:.2%}]",
        ]
        if stalls["count"]:
            out.append(
                f"  {stalls['count']} stalls of {STALL_US / 1e3:g} ms or more, the first at hop {stalls['first']}"
            )
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return the raw values as JSON values; `from_dict` reads them."""
        return {"hop_ms": self.hop_ms, "late_us": self.late_us.tolist(), "call_us": self.call_us.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HopTimes:
        """Read what `to_dict` wrote."""
        late, call = (np.array(values[key], np.float64) for key in ("late_us", "call_us"))
        return cls(hop_ms=float(values["hop_ms"]), late_us=late, call_us=call)


def share_ends(count: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share: never without width, at 0 of n as well."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return low, high


def quantile_ends(values: np.ndarray, q: float, *, level: float = 0.95) -> dict[str, float | None]:
    """Return a quantile with the interval of order statistics; its upper end is None where there are too few values."""
    from scipy.stats import binom

    ordered = np.sort(values)
    low, high = (int(binom.ppf(tail, len(ordered), q)) for tail in ((1 - level) / 2, (1 + level) / 2))
    known = 1 - q ** len(ordered) >= (1 + level) / 2
    return {
        "value": float(np.quantile(ordered, q)),
        "low": float(ordered[min(max(low - 1, 0), len(ordered) - 1)]),
        "high": float(ordered[min(high, len(ordered) - 1)]) if known else None,
    }


def stream(
    call: Callable[[], Any],
    *,
    hop_ms: float,
    hops: int,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> HopTimes:
    """Make a call every `hop_ms` and time each from when it was due.

    Parameters
    ----------
    call : callable
        Called without arguments.
    hop_ms : float
        Between two due times. A call that is longer delays the next.
    hops : int
        How many.
    clock, sleep : callable
        Nanoseconds; seconds.
    """
    for _ in range(WARM_CALLS):
        call()
    late, took = np.empty(hops), np.empty(hops)
    hop = round(hop_ms * 1e6)
    due = clock() + hop
    for k in range(hops):
        if (spare := due - clock() - _SPIN_NS) > 0:
            sleep(spare / 1e9)
        while (start := clock()) < due:
            pass
        call()
        end = clock()
        late[k], took[k] = (start - due) / 1e3, (end - start) / 1e3
        due += hop
    return HopTimes(hop_ms=hop_ms, late_us=late, call_us=took)

"""`BenchReport`: the raw times of a graph and of others, and what they say about each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.display import card
from rtserve.measure.hops import HopTimes, share_ends
from rtserve.measure.machine import Machine
from rtserve.measure.results import environment, save_result
from rtserve.measure.timing import P99_MIN, Timings
from rtserve.tables import fits, record_lines

__all__ = ["AGAIN", "BenchReport", "Contender"]

HEAD = f"{'':34s} {'p50':>9s} {'p90':>9s} {'p99':>9s}  us per window   windows/s"
AGAIN = "the reference again"
"""Name under which the first other graph is timed a second time: the A/A pair."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One thing that was timed.

    Parameters
    ----------
    name : str
        What it is called in the report.
    digest : str
        SHA-256 of exactly the graph that was timed.
    engine : str
        What ran it.
    loop : int
        How many runs one timed call holds.
    branches : int
        Member x view pairs in the graph, as its provenance counts them; 1 for an exported one.
    passes : int
        Rewrites that the graph's provenance says were applied.
    """

    name: str
    digest: str
    engine: str
    loop: int = 1
    branches: int = 1
    passes: int = 0


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Latency and throughput of the first contender, and its ratio to each other one.

    Parameters
    ----------
    contenders : tuple of Contender
        The graph on trial first.
    timings : Timings
        Raw values.
    batch, threads : int
        Windows per call, threads of the engine.
    max_difference : dict
        Per other contender the largest difference of the outputs on the timed input; None where they differ in shape.
    hop_ms : float or None
        Deadline of one call.
    hops : dict
        Per contender its calls at the pace of the hop; empty where none was given.
    machine : Machine or None
        What else the machine did meanwhile.
    assumed : tuple of str
        What a graph does not say and was assumed for it.
    """

    contenders: tuple[Contender, ...]
    timings: Timings
    batch: int
    threads: int
    max_difference: dict[str, float | None]
    hop_ms: float | None = None
    hops: dict[str, HopTimes] = field(default_factory=dict)
    machine: Machine | None = None
    assumed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        told = "; ".join(f"{each.name} {self._brief(each)}" for each in self.contenders)
        return f"<BenchReport at batch {self.batch}, {self.threads} threads: {told}>"

    def _repr_html_(self) -> str:
        rows = [(each.name, self._brief(each)) for each in self.contenders]
        noise = [("noise floor (A/A)", f"{self.noise_floor:.1%}")] if self.noise_floor is not None else []
        return card(f"Batch {self.batch}, {self.threads} threads", [*rows, *noise], self.notes())

    def _brief(self, contender: Contender) -> str:
        """Return the median of a contender, and the ratio to it, which is what carries over to another machine."""
        row = self.row(contender)
        middle = next(
            (f"{key} {value:.1f} us per window" for key, value in row["latency_us"].items() if value), "not timed"
        )
        if "ratio" not in row:
            return middle
        r = row["ratio"]
        told = "" if r["different"] else " (not told apart from 1)"
        return (
            f"{middle}; {self.contenders[0].name} takes {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}] of it{told}"
        )

    @property
    def loaded(self) -> tuple[str, ...]:
        """Why the tail of these times is not to be quoted; empty is good."""
        return self.machine.loaded if self.machine else ()

    @property
    def noise_floor(self) -> float | None:
        """Relative difference under which two things are one here; None where there was nothing to compare."""
        if len(self.contenders) < 2:
            return None
        _, low, high = self.timings.ratio(AGAIN, self.contenders[1].name)
        return max(abs(low - 1), abs(high - 1))

    def different(self, name: str) -> bool:
        """Whether the graph's time differs from the named one's: the interval excludes 1 and the noise floor agrees."""
        ratio, low, high = self.timings.ratio(self.contenders[0].name, name)
        return (low > 1.0 or high < 1.0) and abs(ratio - 1) > (self.noise_floor or 0.0)

    def row(self, contender: Contender) -> dict[str, Any]:
        """Return one contender's summary: per-sample latency (us), throughput (windows/s), ratio, warnings."""
        name, first = contender.name, self.contenders[0]
        per = self.timings.percentile_us
        p50, p90, p99 = ((value / self.batch if value else None) for value in (per(name, q) for q in (50, 90, 99)))
        p99 = None if self.loaded else p99
        values: dict[str, Any] = vars(contender) | {
            "latency_us": {"p50": p50, "p90": p90, "p99": p99},
            "calls": len(self.timings.calls_us(name)),
            "throughput": 1e6 * self.batch / self.timings.median_us(name),
            "unstable": list(self.timings.unstable(name)),
        }
        if self.hop_ms is not None:
            values |= self._deadlines(name, self.hop_ms)
        if name != first.name:
            ratio, low, high = self.timings.ratio(first.name, name)
            values["ratio"] = {"value": ratio, "low": low, "high": high, "different": self.different(name)}
            values["max_difference"] = self.max_difference[name]
        return values

    def _deadlines(self, name: str, hop_ms: float) -> dict[str, Any]:
        """Return the share of missed deadlines with its interval: at the pace of the hop where that was run."""
        if name in self.hops:
            found = self.hops[name].summary()
            misses = found["misses"]
            return {
                "deadline_misses": misses["share"],
                "deadline_interval": [misses["low"], misses["high"]],
                "hop": found,
            }
        missed = self.timings.calls_us(name) > 1e3 * hop_ms
        return {
            "deadline_misses": float(np.mean(missed)),
            "deadline_interval": list(share_ends(int(missed.sum()), len(missed))),
        }

    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know before believing the numbers."""
        first, out = self.contenders[0], list(self.assumed)
        for other in self.contenders[1:]:
            ratio = self.timings.ratio(first.name, other.name)[0]
            if first.digest == other.digest and other.loop == 1 and first.engine == other.engine:
                out.append(f"{first.name} and {other.name} are the same bytes: their ratio says nothing")
            elif first.branches > other.branches * other.loop and ratio < 1 and not first.passes:
                out.append(
                    f"{first.name} holds {first.branches} branches and costs less than {other.loop} x {other.branches},"
                    " and no pass explains it: were all branches run?"
                )
        if self.loaded:
            out.append(f"a loaded machine, so p99 is not quoted: {'; '.join(self.loaded)}")
        elif len(self.timings.calls_us(first.name)) < P99_MIN:
            out.append(f"p99 needs {P99_MIN} calls; there were {len(self.timings.calls_us(first.name))}")
        return tuple(out)

    def to_dict(self, *, raw: bool = True) -> dict[str, Any]:
        """Return the report as JSON values, with every recorded time unless `raw` is False."""
        values: dict[str, Any] = {
            "scenario": "single_stream" if self.batch == 1 else "offline",
            "batch": self.batch,
            "threads": self.threads,
            "hop_ms": self.hop_ms,
            "graph_sha256": self.contenders[0].digest,
            "contenders": [self.row(contender) for contender in self.contenders],
            "noise_floor": self.noise_floor,
            "notes": list(self.notes()),
            "machine": self.machine.to_dict() if self.machine else None,
            "environment": environment(threads=self.threads),
        }
        if not raw:
            return values
        hops = {"hops": {name: times.to_dict() for name, times in self.hops.items()}} if self.hops else {}
        return values | {"raw": self.timings.to_dict() | hops}

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the report with its raw values as JSON."""
        return save_result(path, "bench", self.to_dict(), force=force)

    def lines(self, width: int | None = None) -> list[str]:
        """Return what a person reads; `width` are a terminal's columns."""
        scenario = "single stream" if self.batch == 1 else "offline"
        plural = "s" * (self.threads > 1)
        out = [
            f"{scenario}: batch {self.batch}, {self.threads} thread{plural}, {len(self.timings.rounds)} rounds by turns"
        ]
        rows = [self.row(contender) for contender in self.contenders]
        columns = fits([HEAD, *map(_in_columns, rows)], width)
        out += [HEAD] if columns else []
        for row in rows:
            out += [_in_columns(row)] if columns else record_lines(_label(row), _values(row), width or 0)
            out += self._beneath(row)
        if self.noise_floor is not None:
            out.append(f"noise floor (A/A): differences under {100 * self.noise_floor:.1f} % are noise here")
        return out + [f"note: {note}" for note in self.notes()]

    def _beneath(self, row: Mapping[str, Any]) -> list[str]:
        """Return what is said of a contender below its numbers."""
        out = []
        if "ratio" in row:
            r = row["ratio"]
            verdict = "" if r["different"] else "   (not told apart from 1)"
            speed = f"{1 / r['value']:.2f} times as fast" if r["value"] < 1 else f"{r['value']:.2f} times as long"
            ends = f"{r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]"
            out.append(f"  {self.contenders[0].name} takes {ends} of it: {speed}{verdict}")
        if row["name"] in self.hops:
            out += self.hops[row["name"]].lines()
        elif "deadline_misses" in row:
            low, high = row["deadline_interval"]
            share = f"{row['deadline_misses']:.2%} [{low:.2%}, {high:.2%}]"
            out.append(f"  {share} of calls miss the {self.hop_ms:g} ms hop")
        return out + [f"  unstable: {reason}" for reason in row["unstable"]]


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['name']} [{row['engine']}]" + (f" x {row['loop']}" if row["loop"] > 1 else "")


def _in_columns(row: Mapping[str, Any]) -> str:
    """Return a contender's numbers below `HEAD`."""
    numbers = " ".join(f"{v:9.1f}" if v else f"{'-':>9s}" for v in row["latency_us"].values())
    return f"{_label(row):34s} {numbers}  {row['throughput']:25,.0f}"


def _values(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the same numbers, each with what it is."""
    times = [(key, f"{value:.1f} us per window" if value else "-") for key, value in row["latency_us"].items()]
    return [*times, ("windows/s", f"{row['throughput']:,.0f}")]

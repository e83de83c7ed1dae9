"""How close is equal: the one place that says so.

A float32 graph is **exact** when, against the unoptimised graph (or the network) evaluated in float64, its error is at
most ``max(1e-5, 2 x the plain float32 graph's own error)``, both relative to ``max(1e-3, max|y_ref|)``. Non-finite
input that gave non-finite output still must; finite reference with non-finite output is a failure, whatever a
difference would say (NaN passes a bare ``max|d| > tol``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.errors import ParityError
from rtserve.spec import InputSpec

__all__ = ["BATCHES", "SCALES", "TOLERANCE", "ParityCase", "ParityReport", "check_parity", "probe_inputs"]

TOLERANCE = 1e-5
"""Largest relative error of a float32 graph against float64."""
SLACK = 2.0
"""How many times the plain float32 graph's own error is allowed where that is larger than `TOLERANCE` / 2."""
SPECTRAL_TOLERANCE = 1e-4
"""Largest relative error of onnxruntime on a graph that holds DFT or STFT nodes: its kernels for them sum naively in
float32. Evaluated in float64 such a graph must agree within `TOLERANCE`; the optimiser replaces the nodes."""
FLOOR = 1e-3
"""Outputs smaller than this are compared absolutely, in units of this."""
POOLED = 5e-5
"""Up to here a graph's own error is the largest over all inputs: on a single window it can be small by luck."""
BATCHES = (1, 2, 5)
SCALES = (1e-6, 1e-5, 1e-3, 1.0, 1e2)
"""Input scales: microvolt-sized volts up to normalised and unscaled data."""

Infer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ParityCase:
    """One input and how two results on it differ.

    Parameters
    ----------
    name : str
        Which probe: kind of signal, scale and batch size.
    error : float
        Largest difference relative to ``max(FLOOR, max|y_ref|)``; NaN where finiteness differs.
    allowed : float
        Largest error that passes.
    finite : bool
        Whether both results are finite in the same places.
    """

    name: str
    error: float
    allowed: float
    finite: bool

    @property
    def passed(self) -> bool:
        """Whether the error is a number and within what is allowed."""
        return self.finite and self.error <= self.allowed


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All cases of one comparison."""

    cases: tuple[ParityCase, ...]
    subject: str = "graph"
    reference: str = "float64"

    @property
    def passed(self) -> bool:
        """Whether every case passed; no case at all is no pass."""
        return bool(self.cases) and all(case.passed for case in self.cases)

    @property
    def max_error(self) -> float:
        """Largest relative error; infinite where finiteness differs."""
        return max((case.error if case.finite else float("inf") for case in self.cases), default=float("inf"))

    @property
    def tolerance_needed(self) -> float:
        """Smallest relative tolerance with which every case would pass."""
        return self.max_error

    @property
    def worst(self) -> ParityCase:
        """The case furthest over (or nearest to) its limit."""
        return max(self.cases, key=lambda c: c.error / c.allowed if c.finite else float("inf"))

    def summary(self) -> str:
        """Return one line: the verdict, the largest error, the case it came from."""
        verdict = "equal" if self.passed else "NOT EQUAL"
        if not self.cases:
            return f"{self.subject} against {self.reference}: nothing compared"
        worst = self.worst
        detail = f"{worst.error:.2e}" if worst.finite else "NaN, Inf or another shape"
        needed = self.tolerance_needed
        smallest = f"smallest tolerance that passes {needed:.2e}" if np.isfinite(needed) else "no tolerance passes"
        return (
            f"{self.subject} against {self.reference}: {verdict}, worst {detail} (allowed {worst.allowed:.1e}) on"
            f" {worst.name}, {len(self.cases)} inputs; {smallest}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "passed": self.passed,
            "max_error": self.max_error if np.isfinite(self.max_error) else None,
            "inputs": len(self.cases),
            "worst": self.worst.name if self.cases else None,
        }

    def require(self, *, hint: str) -> ParityReport:
        """Return the report if it passed.

        Raises
        ------
        ParityError
            Otherwise, with the report attached.
        """
        if not self.passed:
            raise ParityError(self.summary(), hint=hint, report=self)
        return self


def _pink(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return noise with a 1/f spectrum along the last axis and unit standard deviation: shaped like EEG."""
    spectrum = np.fft.rfft(rng.standard_normal(shape), axis=-1)
    frequency = np.maximum(np.arange(spectrum.shape[-1]), 1.0)
    signal = np.fft.irfft(spectrum / np.sqrt(frequency), n=shape[-1], axis=-1)
    scaled: np.ndarray = signal / max(float(signal.std()), 1e-12)
    return scaled


def probe_inputs(
    spec: InputSpec, *, batches: Iterable[int] = BATCHES, scales: Iterable[float] = SCALES, seed: int = 0
) -> list[tuple[str, np.ndarray]]:
    """Return named inputs that a pair of graphs is compared on.

    White noise and window-shaped noise (1/f, with an offset, a spike, a flat channel and a large channel) at every
    scale; each scale at one batch size in turn, and the unit scale at all.

    Parameters
    ----------
    spec : InputSpec
        Gives (n_chans, n_times).
    batches, scales : iterable
        Batch sizes and input scales.
    seed : int
        Seed of the noise.

    Returns
    -------
    list of (str, ndarray)
        Name and float32 input (batch, n_chans, n_times).
    """
    rng = np.random.default_rng(seed)
    batches = tuple(batches)
    probes: list[tuple[str, np.ndarray]] = []
    for number, scale in enumerate(scales):
        for batch in batches if scale == 1.0 else (batches[number % len(batches)],):
            shape = (batch, spec.n_chans, spec.n_times)
            probes.append(
                (f"white noise x {scale:g}, batch {batch}", (scale * rng.standard_normal(shape)).astype("f4"))
            )
            window = _pink(rng, shape) + 0.3 * rng.standard_normal((batch, spec.n_chans, 1))
            window[0, 0] = 0.0
            window[-1, -1] *= 10.0
            window[0, spec.n_chans // 2, spec.n_times // 2] += 20.0
            probes.append((f"window-shaped x {scale:g}, batch {batch}", (scale * window).astype("f4")))
    return probes


def compare_outputs(
    name: str, got: np.ndarray, reference: np.ndarray, *, own_error: float = 0.0, tolerance: float = TOLERANCE
) -> ParityCase:
    """Compare one result with its float64 reference.

    Parameters
    ----------
    name : str
        What the input was.
    got, reference : ndarray
        Results (batch, n_outputs); the reference in float64.
    own_error : float
        Relative error of the plain float32 graph on this input.
    tolerance : float
        Largest relative error that passes whatever `own_error` is.
    """
    got = np.asarray(got, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    allowed = max(tolerance, SLACK * own_error) if np.isfinite(own_error) else tolerance
    if got.shape != reference.shape:
        return ParityCase(
            name=f"{name}: shape {got.shape} against {reference.shape}",
            error=float("nan"),
            allowed=allowed,
            finite=False,
        )
    fine = np.isfinite(reference)
    if not np.array_equal(fine, np.isfinite(got)):
        return ParityCase(name=name, error=float("nan"), allowed=allowed, finite=False)
    return ParityCase(name=name, error=relative_error(got, reference), allowed=allowed, finite=True)


def pooled_errors(own: Sequence[float]) -> list[float]:
    """Return the plain float32 graph's own error for each input: its own there, or the largest anywhere up to `POOLED`.

    The cap keeps one ill-conditioned input (a softmax driven into saturation, say) from excusing all the others.
    """
    common = min(max(own, default=0.0), POOLED)
    return [max(error, common) for error in own]


def relative_error(got: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest difference over finite entries, relative to ``max(FLOOR, max|reference|)``."""
    fine = np.isfinite(reference) & np.isfinite(got)
    if not fine.any():
        return 0.0
    size = max(FLOOR, float(np.abs(reference[fine]).max()))
    return float(np.abs(got[fine].astype(np.float64) - reference[fine]).max()) / size


def check_parity(
    infer: Infer,
    reference: Infer,
    inputs: Iterable[tuple[str, np.ndarray]],
    *,
    plain: Infer | None = None,
    subject: str = "graph",
    reference_name: str = "float64",
) -> ParityReport:
    """Compare two ways of computing the same thing on the given inputs.

    Parameters
    ----------
    infer : callable
        What is on trial: float32 (batch, n_chans, n_times) to (batch, n_outputs).
    reference : callable
        The float64 truth.
    inputs : iterable of (str, ndarray)
        From `probe_inputs`, and real windows where there are some.
    plain : callable, optional
        The unoptimised float32 graph; twice its own error is allowed where it is the larger.
    subject, reference_name : str
        What the report calls the two.
    """
    cases = []
    for name, x in inputs:
        truth = reference(x)
        own = relative_error(np.asarray(plain(x)), truth) if plain is not None else 0.0
        cases.append(compare_outputs(name, infer(x), truth, own_error=own))
    return ParityReport(cases=tuple(cases), subject=subject, reference=reference_name)

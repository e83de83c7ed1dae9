r"""How close is equal: the one place that says so.

**The question.** A graph in float32 is compared with the same network in float64. It differs by rounding, and must not
differ by more. How much rounding explains depends on the input and on the network, not on how well an engine did.

**The analysis.** An elementary operation on floating-point numbers gives :math:`fl(a \circ b) = (a \circ b)(1 +
\delta)`, :math:`|\delta| \le u = 2^{-24}` in float32 (Higham, *Accuracy and Stability of Numerical Algorithms*,
section 2.2). To first order the answer :math:`y` is off by :math:`\sum_k J_k a_k \delta_k` over all operations
:math:`k`: :math:`a_k` the number rounded, :math:`J_k` the derivative of the answer by it. With :math:`\delta_k`
independent and of mean zero (Higham and Mary, SIAM J. Sci. Comput. 2019: it is what is observed) this has the standard
deviation :math:`\sigma = u \sqrt{\sum_k (J_k a_k)^2 / 3}`: the depth of the network is in the number of terms, the
magnitude of what it adds up (and cancels) in :math:`a_k`, its condition in :math:`J_k`. `rtserve.graphs.rounding`
draws from that sum by letting every operation err in float64. Two additions to the model, both measured: an operation
is charged two roundings, and a function that engines compute as a difference (Elu is exp(x) - 1) errs by a rounding of
what is subtracted.

**The rule.** Let r be the largest of the draws, relative to ``max(1e-3, max|y_ref|)`` as every error here. A float32
evaluation is one more draw of the same sum, with errors of its own making in place of the uniform ones.

How many times r it may be follows from that. For one answer the sum is normal (many terms): r is the largest of four
:math:`|N(0, \sigma)|`, the error one more, and :math:`P(error > s r) \approx 3 (\sqrt{2/\pi}/s)^4`, since r must be
small four times over. That is 0.4 % for s = 4, too often for something asked of every input of every network, and
0.03 % for s = 8. Over the zoo's networks and three seeds errors above 1e-5 reached 4.9 r; those of onnxruntime's own
Fourier transforms, which `SPECTRAL_TOLERANCE` is for, 97 r.

- error <= ``max(1e-5, 8 r)`` and both error and r <= 1e-4: **equal**. 1e-5 is what nobody can tell apart and what a
  single lucky r must not undercut.
- error <= ``8 r``, and one of the two above 1e-4: **ill-conditioned**. The graph does no worse than float32 must, but
  float32 itself is off by r; that is not called equal. So is an answer that overflows in the plain float32 network.
- otherwise **not equal**.

A comparison passes where no input is unequal and at least one is equal. The ceiling of 1e-4 does not move: a network
whose float32 answers are wrong by 4 % (noise, say) has not excused anything by being bad. ``benchmarks/parity_rule.py``
asks both ends of the rule of every network of the zoo: none is to be refused, and none with noise added to pass (what
came out is in ``benchmarks/results/parity_rule.md``).

Non-finite input that gave non-finite output still must; finite reference with non-finite output is a failure, whatever
a difference would say (NaN passes a bare ``max|d| > tol``), unless the plain float32 network has no number there either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.display import card
from rtserve.errors import ParityError
from rtserve.spec import InputSpec

__all__ = [
    "BATCHES",
    "CEILING",
    "SCALES",
    "SLACK",
    "TOLERANCE",
    "ParityCase",
    "ParityReport",
    "check_parity",
    "compare_outputs",
    "probe_inputs",
    "relative_error",
]

TOLERANCE = 1e-5
"""Relative error that is equal whatever rounding explains."""
CEILING = 1e-4
"""Relative error above which nothing is called equal, whatever rounding explains."""
SLACK = 8.0
"""How many times the largest of the drawn rounding errors is allowed; derived above. Over the zoo's networks and three
seeds the ratio is recorded by ``benchmarks/parity_rule.py``."""
SPECTRAL_TOLERANCE = CEILING
"""Largest relative error of onnxruntime on a graph that holds DFT or STFT nodes: its kernels for them sum naively in
float32. Evaluated in float64 such a graph must agree within `TOLERANCE`; the optimiser replaces the nodes."""
FLOOR = 1e-3
"""Outputs smaller than this are compared absolutely, in units of this."""
EQUAL, ILL, UNEQUAL = "equal", "ill-conditioned", "NOT EQUAL"
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
        Largest error that rounding explains (at least `TOLERANCE`, or what the caller set).
    finite : bool
        Whether both results are finite in the same places.
    rounding : float
        Relative error that float32 is expected to make on this input; 0 where nobody asked.
    overflows : bool
        Whether the plain float32 network has no number here where float64 has one.
    silent : bool
        Whether the reference has no number for some window.
    """

    name: str
    error: float
    allowed: float
    finite: bool
    rounding: float = 0.0
    overflows: bool = False
    silent: bool = False

    @property
    def verdict(self) -> str:
        """``equal``, ``ill-conditioned`` or ``NOT EQUAL``."""
        if not self.finite:
            return ILL if self.overflows else UNEQUAL
        if not self.error <= self.allowed:
            return UNEQUAL
        return EQUAL if max(self.error, self.rounding) <= CEILING and not self.overflows else ILL

    @property
    def passed(self) -> bool:
        """Whether the difference is one that float32 explains."""
        return self.verdict != UNEQUAL


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All cases of one comparison.

    Parameters
    ----------
    cases : tuple of ParityCase
        One per input.
    subject, reference : str
        What the two are called.
    notes : tuple of str
        What a reader must know besides: a witness that was not obeyed, an engine that is not installed.
    """

    cases: tuple[ParityCase, ...]
    subject: str = "graph"
    reference: str = "float64"
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<ParityReport {self._verdict_text()}>"

    def _repr_html_(self) -> str:
        found = {verdict: len(self.of(verdict)) for verdict in (EQUAL, ILL, UNEQUAL)}
        rows = [
            ("verdict", self.verdict),
            ("compared", f"{self.subject} with {self.reference}"),
            ("inputs", ", ".join(f"{count} {verdict}" for verdict, count in found.items() if count) or "none"),
            (
                "worst",
                f"{self.worst.error:.2e} (allowed {self.worst.allowed:.1e}) on {self.worst.name}" if self.cases else "",
            ),
        ]
        return card("Parity", rows, self.notes)

    def of(self, verdict: str) -> tuple[ParityCase, ...]:
        """Return the cases with a verdict."""
        return tuple(case for case in self.cases if case.verdict == verdict)

    @property
    def verdict(self) -> str:
        """``equal`` on every input, ``ill-conditioned`` on some, or ``NOT EQUAL``."""
        if self.of(UNEQUAL) or not self.cases:
            return UNEQUAL
        return ILL if self.of(ILL) else EQUAL

    @property
    def passed(self) -> bool:
        """Whether no case is unequal and at least one is equal; no case at all is no pass."""
        return self.verdict != UNEQUAL and bool(self.of(EQUAL))

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
        """Return one line: the verdict, the largest error, the case it came from, and the notes."""
        return "; ".join((self._verdict_text(), *self.notes))

    def _verdict_text(self) -> str:
        if not self.cases:
            return f"{self.subject} against {self.reference}: nothing compared"
        ill = self.of(ILL)
        if self.verdict == ILL:
            rest = len(self.cases) - len(ill)
            return (
                f"{self.subject} against {self.reference}: ill-conditioned: {_what_float32_does(ill)}; equal on"
                f" {f'the other {rest}' if rest else 'none'} of {len(self.cases)} inputs"
            )
        worst = self.worst
        detail = f"{worst.error:.2e}" if worst.finite else "NaN, Inf or another shape"
        needed = self.tolerance_needed
        smallest = f"smallest tolerance that passes {needed:.2e}" if np.isfinite(needed) else "no tolerance passes"
        return (
            f"{self.subject} against {self.reference}: {self.verdict}, worst {detail} (allowed"
            f" {min(worst.allowed, CEILING):.1e}) on {worst.name}, {len(self.cases)} inputs; {smallest}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "max_error": self.max_error if np.isfinite(self.max_error) else None,
            "inputs": len(self.cases),
            "worst": self.worst.name if self.cases else None,
            "ill_conditioned": [case.name for case in self.of(ILL)],
            "notes": list(self.notes),
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


def _what_float32_does(ill: Sequence[ParityCase]) -> str:
    """Return by how much float32 itself is off on ill-conditioned inputs, or that it overflows there, and on which."""
    undecided = [case for case in ill if not case.overflows and np.isinf(case.rounding)]
    named = [case.name for case in ill if not case.overflows and case not in undecided]
    off = max((max(case.rounding, case.error) for case in ill if case.name in named), default=0.0)
    said = []
    for case in undecided:
        other = "there is no number, and a rounding would give one," if case.silent else "a rounding leaves no number"
        said.append(f"{other} on {case.name}")
    if named:
        said.append(f"float32 itself is off by {off:.1e} (more than {CEILING:.0e}) on {_listed(named)}")
    if any(case.overflows for case in ill):
        said.append(f"float32 itself overflows on {_listed([case.name for case in ill if case.overflows])}")
    return " and ".join(said)


def _listed(names: Sequence[str], most: int = 3) -> str:
    return "; ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def compare_outputs(
    name: str,
    got: np.ndarray,
    reference: np.ndarray,
    *,
    rounding: float = 0.0,
    tolerance: float = TOLERANCE,
    single: np.ndarray | None = None,
) -> ParityCase:
    """Compare one result with its float64 reference.

    Parameters
    ----------
    name : str
        What the input was.
    got, reference : ndarray
        Results (batch, n_outputs); the reference in float64.
    rounding : float
        Relative error that float32 is expected to make on this input (`rtserve.graphs.rounding`).
    tolerance : float
        Relative error that is equal whatever `rounding` is.
    single : ndarray, optional
        What the plain network answers in float32: where it overflows, the result may too.
    """
    got = np.asarray(got, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    allowed = max(tolerance, SLACK * rounding) if np.isfinite(rounding) else tolerance

    def case(error: float, *, finite: bool, called: str = name, overflows: bool = False) -> ParityCase:
        return ParityCase(
            name=called, error=error, allowed=allowed, finite=finite, rounding=rounding, overflows=overflows,
            silent=not np.isfinite(reference).all(),
        )  # fmt: skip

    if got.shape != reference.shape:
        return case(float("nan"), finite=False, called=f"{name}: shape {got.shape} against {reference.shape}")
    fine = np.isfinite(reference)
    lost = fine & ~np.isfinite(single) if single is not None and single.shape == reference.shape else fine & ~fine
    if lost.any():  # there the graph may answer what it likes; elsewhere it must answer as the network does
        got, reference = np.where(lost, 0.0, got), np.where(lost, 0.0, reference)
    if not np.array_equal(fine, np.isfinite(got)):
        return case(float("nan"), finite=False)
    return case(relative_error(got, reference), finite=True, overflows=bool(lost.any()))


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
    subject, reference_name : str
        What the report calls the two.
    """
    cases = [compare_outputs(name, infer(x), reference(x)) for name, x in inputs]
    return ParityReport(cases=tuple(cases), subject=subject, reference=reference_name)

r"""The temporal operator P (features, n_out, n_in) of an affine value, found from what it makes of a few inputs.

Up to some length the inputs are an impulse at every sample, and their responses are P. For a long window impulses lie K
samples apart, so that P need not be quadratic in it: an output that reads fewer than K neighbouring samples says which
number belongs to which of them. Where it reads them is what moves by the stride from output to output; whether that is so
is asked of responses to noise, which agree for no other P. The rows in the middle of such a P are one row: it is kept with
the middle cut out, and the filter that is found in it is that of the whole window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rtserve.fusion.affine.toeplitz import EXACT, Filter, analyse, read_by, strides
from rtserve.fusion.ir.passes import Refused

__all__ = ["Operator", "operator_of", "probes", "require_followed", "spacings"]

LONG = 1024
"""Windows up to which every sample has an impulse of its own."""
APART = (64, 128, 256, 512)
"""Samples between impulses in longer ones, the first with which an output's samples can be told from each other."""
NOISES = 2
LARGEST = 60_000_000
"""Numbers that P may have (float64: half a gigabyte)."""
ALIKE = 1e-9
"""Part of the largest by which responses to noise may differ from what they should be."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """P, and the filter that it is.

    Parameters
    ----------
    distinct : ndarray, (features, outputs, samples)
        P without its middle.
    n_out, n_in : int
        Outputs and samples of the whole.
    rows : ndarray of int or None
        Which of those each feature is; None where they are the features.
    weighed_out : bool
        Whether samples may be read that are weighed with 0.
    """

    distinct: np.ndarray
    n_out: int
    n_in: int
    rows: np.ndarray | None = None
    weighed_out: bool = False

    @property
    def array(self) -> np.ndarray:
        """P of every feature."""
        return self.distinct if self.rows is None else self.distinct[self.rows]

    @property
    def cut(self) -> bool:
        """Whether something was left out."""
        return bool(self.distinct.shape[1] < self.n_out)

    @cached_property
    def filter(self) -> Filter | None:
        """The filter with its corners; None where it is none.

        Raises
        ------
        Refused
            Where it is none, and P is too large to be written out.
        """
        found = analyse(self.distinct)
        if found is None and self.cut:
            raise Refused("no filter, on a window too long for a product")
        if found is None:
            return None
        read = np.zeros(self.distinct.shape[2], dtype=bool)
        read[read_by(self.distinct)] = True
        if not self.weighed_out and (found.touched & ~read).any():
            whole = self._whole(read)
            inner = replace(self, distinct=self.distinct[..., read], n_in=int(whole.sum())).filter
            return inner and replace(inner, read=np.flatnonzero(whole))
        found = found if self.rows is None else found.picked(self.rows)
        return replace(found, conv=replace(found.conv, n_in=self.n_in))

    def _whole(self, read: np.ndarray) -> np.ndarray:
        """Return which samples are read, with those in the middle, that repeat from output to output."""
        middle, rows = len(read) // 2, self.n_out - self.distinct.shape[1]
        period = read[middle : middle + (self.n_in - len(read)) // max(rows, 1)]
        return np.concatenate([read[:middle], np.tile(period, rows), read[middle:]])


def require_followed(numbers: int) -> None:
    """Refuse responses of so many numbers, where they are too many."""
    if numbers > LARGEST:
        raise Refused("the impulse responses are too large to follow")


def spacings(n_times: int) -> tuple[int, ...]:
    """Return how far apart impulses may lie, the closest first: fewer responses tell less, and cost less."""
    return APART if n_times > LONG else (n_times,)


def probes(n_times: int, apart: int) -> np.ndarray:
    """Return the inputs, (probes, n_times), whose responses say what P is, with impulses so far apart."""
    if n_times <= LONG:
        return np.eye(n_times)
    combs = (np.arange(n_times) % apart == np.arange(apart)[:, None]).astype(np.float64)
    return np.concatenate([combs, _noise(n_times)])


def _noise(n_times: int) -> np.ndarray:
    """Return the last of the `probes` of a long window, (NOISES, n_times)."""
    return np.random.default_rng(0).standard_normal((NOISES, n_times))


def operator_of(response: np.ndarray, n_times: int) -> Operator:
    """Return the operator whose responses to `probes` are (probes, features, n_out).

    Raises
    ------
    Refused
        Where an output of a long window reads too many samples, or others than its neighbours read.
    """
    n_out = response.shape[2]
    if n_times <= LONG:
        return Operator(distinct=response.transpose(1, 2, 0), n_out=n_out, n_in=n_times)
    apart = len(response) - NOISES
    size, noise = max(response[:apart].max(), -response[:apart].min(), 1e-300), _noise(n_times)
    for stride in strides(n_out, n_times):
        for first in _firsts(response[:apart], stride, n_times, size):
            at = first + stride * np.arange(n_out, dtype=np.int32) + np.arange(apart, dtype=np.int32)[:, None]
            if all(_agrees(_band(one, at, n_times), at, noise, one[apart:]) for one in response.transpose(1, 0, 2)):
                return _without_middle(response, at, stride, n_times, size)
    raise Refused(f"an output reads {apart} samples or more, or not what its neighbours read")


def _firsts(response: np.ndarray, stride: int, n_times: int, size: float) -> list[int]:
    """Return where what output 0 reads may begin, the likeliest first, if outputs in the middle are a stride apart."""
    apart, middle = len(response), response.shape[2] // 2
    used = np.flatnonzero(np.abs(response[..., middle]).max(axis=1) > EXACT * size)
    if not len(used):
        return []
    gaps = np.diff([*used, used[0] + apart])
    last = int(gaps.argmax())
    span = apart - int(gaps[last]) + 1
    low = int(used[(last + 1) % len(used)]) - (apart - span) // 2
    places = np.arange(-(n_times // apart) - 1, n_times // apart + 2) * apart + (low - stride * middle) % apart
    return sorted(places.tolist(), key=lambda first: abs(first + apart // 2))[:4]


def _band(response: np.ndarray, at: np.ndarray, n_times: int) -> np.ndarray:
    """Return what one feature (probes, n_out) reads at some places (samples, n_out), nothing outside the window."""
    band = np.take_along_axis(response, at % len(at), axis=0)
    band[(at < 0) | (at >= n_times)] = 0.0
    return band


def _agrees(band: np.ndarray, at: np.ndarray, noise: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether the outputs that read (samples, n_out) at some places are what was made of noise."""
    limit = ALIKE * max(np.abs(wanted).max(), 1e-300)
    made = (np.einsum("jt,jt->t", band, one[np.clip(at, 0, len(one) - 1)]) for one in noise)
    return not any(np.abs(one - answer).max() > limit for one, answer in zip(made, wanted, strict=True))


def _without_middle(response: np.ndarray, at: np.ndarray, stride: int, n_times: int, size: float) -> Operator:
    """Return the operator with the rows in the middle cut out that are all the same."""
    features, n_out = response.shape[1:]
    middle, other, used = n_out // 2, np.zeros(n_out), np.zeros(len(at))
    for one in response.transpose(1, 0, 2):
        band = _band(one, at, n_times)
        np.maximum(used, np.abs(band[:, middle]), out=used)
        band -= band[:, middle : middle + 1].copy()
        np.maximum(other, np.maximum(band.max(axis=0), -band.min(axis=0)), out=other)
    ends, reads = np.flatnonzero(other > EXACT * size), np.flatnonzero(used > EXACT * size)
    left, right = ends[ends < middle], ends[ends > middle]
    end = max(int(left[-1]) + 1 if len(left) else 0, n_out - int(right[0]) if len(right) else 0)
    keep = min(4 * end + 3 * (int(reads[-1] - reads[0]) + 1) // stride + 16, -(-n_out // 2))
    removed = max(n_out - 2 * keep, 0)
    if features * 2 * keep * (n_times - stride * removed) > LARGEST:
        far = end > n_out // 3  # from its ends
        raise Refused(
            "no filter, on a window too long for a product" if far else "too much of a long window is at its ends"
        )
    rows = np.r_[:keep, keep + removed : n_out]
    array = np.zeros((features, len(rows), n_times - stride * removed))
    for row, t in enumerate(rows):
        place = at[:, t] - stride * removed * (row >= keep)
        inside = (at[:, t] >= 0) & (at[:, t] < n_times) & (place >= 0) & (place < array.shape[2])
        array[:, row, place[inside]] = response[at[inside, t] % len(at), :, t].T
    return Operator(distinct=array, n_out=n_out, n_in=n_times)

"""What a graph's windows had, done to samples as they come: causal filters, with the delay that they cannot help.

A network is trained on windows of recordings that were filtered as a whole and without delay. No live filter does that: it
has the same band, and every wave comes out later. The delay, and how far the two filters are apart within the band, are
said; what cannot be done as samples come is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rtserve.errors import SpecMismatchError

__all__ = ["Causal", "causal_for"]

ORDER = 4
"""Of a Butterworth filter at each end of the band."""
NOTCH_Q = 30.0
SETTLED = 1e-2
"""Of an impulse's largest answer: what is left of the past once answers are given."""
_FILTERS = ("highpass_hz", "lowpass_hz", "notch_hz")


@dataclass(frozen=True, kw_only=True, eq=False)
class Filtered:
    """A filter as second-order sections, and what is to be known of it.

    Parameters
    ----------
    sections : ndarray, (n_sections, 6)
        As `scipy.signal.sosfilt` takes them.
    settles : int
        Samples until what was before the first one is forgotten.
    said : str
        Its delay and its difference from a filter without one.
    """

    sections: np.ndarray
    settles: int
    said: str


class Causal:
    """Filters and reference of one stream: what it remembers is forgotten by `reset`.

    Parameters
    ----------
    filtered : Filtered or None
        The filter; None for none.
    average : bool
        Whether the mean of all channels is taken away from each.
    """

    def __init__(self, filtered: Filtered | None, *, average: bool = False) -> None:
        self._filtered, self._average = filtered, average
        self.said = [filtered.said] if filtered is not None else []
        self.said += ["average reference over the graph's channels: no delay"] if average else []
        self.reset()

    @property
    def settles(self) -> int:
        """Samples in front of a window that are still of the filter's start."""
        return self._filtered.settles if self._filtered is not None else 0

    @property
    def spreads(self) -> bool:
        """Whether a sample that is no number would never be forgotten."""
        return self._filtered is not None

    def reset(self) -> None:
        """Forget all samples: the next one is taken for what has always been."""
        self._state: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return samples (n_chans, n) that follow the last ones, filtered."""
        if self._average:
            x = x - x.mean(axis=0)
        if self._filtered is None or not x.shape[1]:
            return x
        from scipy.signal import sosfilt, sosfilt_zi

        if self._state is None:
            self._state = sosfilt_zi(self._filtered.sections)[:, None] * x[None, :, :1]
        out, self._state = sosfilt(self._filtered.sections, x, axis=1, zi=self._state)
        return np.asarray(out)


def causal_for(steps: Mapping[str, str], sfreq: float) -> Causal:
    """Return what does to samples what was done to a graph's windows.

    Parameters
    ----------
    steps : mapping of str to str
        As `rtserve.spec.InputSpec.preprocessing` has them.
    sfreq : float
        Of the samples in Hz.

    Raises
    ------
    SpecMismatchError
        Where one of them is none that can be done as samples come.
    """
    unknown = [f"{key} {value}" for key, value in steps.items() if key not in (*_FILTERS, "reference")]
    unknown += [f"reference {steps['reference']}"] if steps.get("reference", "average") != "average" else []
    bad = [f"{key} {steps[key]}" for key in _FILTERS if key in steps and not 0 < _number(steps[key]) < sfreq / 2]
    if unknown or bad:
        raise SpecMismatchError(
            f"the graph's windows had {', '.join(unknown + bad)}, which is not done to samples as they come here",
            hint=f"known are {', '.join(_FILTERS)} under half of {sfreq:g} Hz and reference=average; where the samples had"
            " it already, say --filtered",
        )
    sections = _sections({key: _number(steps[key]) for key in _FILTERS if key in steps}, sfreq)
    filtered = None if sections is None else Filtered(
        sections=sections, settles=_settling(sections, sfreq), said=_said(sections, steps, sfreq)
    )  # fmt: skip
    return Causal(filtered, average=steps.get("reference") == "average")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _sections(ends: Mapping[str, float], sfreq: float) -> np.ndarray | None:
    from scipy.signal import butter, iirnotch, tf2sos

    found = []
    if "highpass_hz" in ends:
        found.append(butter(ORDER, ends["highpass_hz"], "highpass", fs=sfreq, output="sos"))
    if "lowpass_hz" in ends:
        found.append(butter(ORDER, ends["lowpass_hz"], "lowpass", fs=sfreq, output="sos"))
    if "notch_hz" in ends:
        found.append(tf2sos(*iirnotch(ends["notch_hz"], NOTCH_Q, fs=sfreq)))
    return np.concatenate(found) if found else None


def _settling(sections: np.ndarray, sfreq: float) -> int:
    """Return after how many samples an impulse's answer stays under a part of its largest value."""
    from scipy.signal import sosfilt

    n = int(sfreq)
    while True:
        n *= 2
        answer = np.abs(sosfilt(sections, np.eye(1, n)[0]))
        late = np.flatnonzero(answer > SETTLED * answer.max())[-1] + 1
        if late < n // 2 or n > 3600 * sfreq:
            return int(late)


def _said(sections: np.ndarray, steps: Mapping[str, str], sfreq: float) -> str:
    """Return the delay within the band, and how far it is from the filter that MNE would run without one."""
    import mne
    from scipy.signal import freqz, sosfreqz

    low, high = (_number(steps[key]) if key in steps else None for key in _FILTERS[:2])
    end = min(high or sfreq / 2, sfreq / 2)
    begin = low or min(0.5, end / 4)
    quarter = (end - begin) / 4
    inner = np.linspace(min(2 * begin, begin + quarter), max(0.8 * end, end - quarter), 200)
    at, answer = sosfreqz(sections, inner, fs=sfreq)
    phase = -np.unwrap(np.angle(answer))
    delay = 1e3 * np.gradient(phase, 2 * np.pi * at)
    alpha = float(np.interp(10.0, at, delay)) if at[0] <= 10.0 <= at[-1] else float(np.median(delay))
    where = "10 Hz" if at[0] <= 10.0 <= at[-1] else "the band's middle"
    parts = [f"{key.removesuffix('_hz')} {steps[key]} Hz" for key in _FILTERS if key in steps]
    text = (
        f"{', '.join(parts)} as samples come (Butterworth, order {ORDER}): a delay of {alpha:.0f} ms at {where},"
        f" {delay.min():.0f} to {delay.max():.0f} ms from {at[0]:.3g} to {at[-1]:.3g} Hz; a filter of the whole recording"
        " has none"
    )
    if low is None and high is None:
        return text
    taps = mne.filter.create_filter(None, sfreq, low, high, verbose="error")
    apart = 20 * np.abs(np.log10(np.abs(answer) / np.maximum(np.abs(freqz(taps, 1, at, fs=sfreq)[1]), 1e-12)))
    return f"{text}, and its magnitude (MNE's FIR) differs by up to {apart.max():.1f} dB there"

"""One recording, read with MNE and cleaned: channels in order, band, rate, reference, volts.

Everything that can be wrong with it is an `InputError` that names the file.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.electrodes import CHANNELS
from rtserve.spec import UNITS

__all__ = ["SUFFIXES", "Cleaning", "open_recording"]

SUFFIXES = (".bdf", ".edf", ".set", ".fif", ".vhdr", ".gz")
LARGEST_V = 5e-3
SMALLEST_V = 1e-9
"""Half of a recording's samples are under the first and over the second in volts, whatever the amplifier."""


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is done to every recording, in this order.

    Parameters
    ----------
    drop : tuple of str
        Channels left out first.
    channels : tuple of str
        Channels to have, in this order; empty for the recording's own EEG channels.
    interpolate : bool
        Fill missing channels from their neighbours instead of refusing.
    unit : str
        Unit the samples really have, where the file's own claim is wrong; empty to trust it.
    low, high : float or None
        Band in Hz.
    sfreq : float or None
        New rate in Hz.
    reference : str
        ``"average"``, a channel's name, or empty for none.
    """

    drop: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    interpolate: bool = False
    unit: str = ""
    low: float | None = 0.5
    high: float | None = 50.0
    sfreq: float | None = 100.0
    reference: str = ""


def open_recording(path: Path, cleaning: Cleaning) -> Any:
    """Return the cleaned recording as an `mne.io.Raw` with its data in volts.

    Raises
    ------
    InputError
        Where it cannot be read whole, lacks channels, holds NaN, is in another unit than it says, or cannot be
        filtered as asked.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = _read(path)
        _choose(raw, path, cleaning)
        _check_values(raw, path, cleaning)
        _fill(raw, path, cleaning)
        _filter(raw, path, cleaning)
    return raw


def _read(path: Path) -> Any:
    import mne

    if not path.exists():
        raise InputError(f"recording {path} does not exist", hint="check the path")
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{path} is no recording that is read here", hint=f"one of {', '.join(SUFFIXES)}")
    try:
        with warnings.catch_warnings():
            # MNE reads a file that was cut off as far as it goes and warns; half a recording is no recording.
            warnings.filterwarnings("error", message="(?s).*(does not match the file size|truncated|incomplete).*")
            raw = mne.io.read_raw(path, preload=True, verbose="error")
            _require_whole(raw, path)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"recording {path} cannot be read whole: {reason}", hint="copy it again; is it cut off?"
        ) from None
    return raw


def _require_whole(raw: Any, path: Path) -> None:
    """Compare a BDF's or EDF's size with what its header promises: verbose readers only warn, quiet ones do not."""
    if path.suffix.lower() not in (".bdf", ".edf"):
        return
    with open(path, "rb") as handle:
        head = handle.read(256)
        n_header, n_records, n_signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
        handle.seek(256 + n_signals * 216)
        samples = sum(int(handle.read(8)) for _ in range(n_signals))
    wanted = n_header + n_records * samples * (3 if path.suffix.lower() == ".bdf" else 2)
    actual = path.stat().st_size
    if n_records > 0 and actual < wanted:
        raise InputError(
            f"recording {path} is cut off: {actual} bytes, its header promises {wanted}", hint="copy it again"
        )


def _choose(raw: Any, path: Path, cleaning: Cleaning) -> None:
    """Leave the channels that are wanted; what is missing is filled later or named now."""
    absent = [name for name in cleaning.drop if name not in raw.ch_names]
    if absent:
        raise InputError(f"{path} has no channel {', '.join(absent)} to drop", hint=f"it has {_few(raw.ch_names)}")
    raw.drop_channels(list(cleaning.drop))
    if not cleaning.channels:
        raw.pick("eeg", exclude=())
        return
    if "E129" in raw.ch_names and "Cz" in cleaning.channels and "Cz" not in raw.ch_names:
        raw.rename_channels({"E129": "Cz"}, verbose="error")
    missing = [name for name in cleaning.channels if name not in raw.ch_names]
    if missing and (not cleaning.interpolate or len(missing) > len(cleaning.channels) // 4):
        raise InputError(
            f"{path} lacks {len(missing)} of {len(cleaning.channels)} channels: {_few(missing)}",
            hint="--missing interpolate fills up to a quarter from their neighbours; --channels names others",
        )
    raw.pick([name for name in cleaning.channels if name in raw.ch_names])


def _few(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")


def _check_values(raw: Any, path: Path, cleaning: Cleaning) -> None:
    """Refuse NaN and a scale that no scalp EEG has in the unit the file claims."""
    data = raw._data
    if cleaning.unit:
        data *= UNITS[cleaning.unit]
    bad = ~np.isfinite(data)
    if bad.any():
        channel, sample = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{path} holds {int(bad.sum())} samples that are NaN or Inf, first in {raw.ch_names[channel]} at"
            f" {sample / raw.info['sfreq']:.3f} s",
            hint="cut or repair the segment: a filter would spread it over the whole channel",
        )
    if not data.size:
        raise InputError(f"{path} holds no sample", hint="is it the right file?")
    typical = float(np.median(np.abs(data - np.median(data, axis=1, keepdims=True))))
    if typical > LARGEST_V:
        raise InputError(
            f"{path}: half its samples exceed {typical:.3g} V after MNE's conversion, EEG has about 1e-5 V;"
            " a factor of 1e6 is microvolt declared as volt",
            hint="--unit uV takes the samples for microvolt",
        )
    if 0.0 < typical < SMALLEST_V:
        raise InputError(
            f"{path}: half its samples are under {typical:.3g} V after MNE's conversion, EEG has about 1e-5 V;"
            " a factor of 1e6 is volt declared as microvolt",
            hint="write the file's unit as volt",
        )


def _fill(raw: Any, path: Path, cleaning: Cleaning) -> None:
    """Interpolate missing channels from the montage's positions, and put all in order."""
    import mne

    missing = [name for name in cleaning.channels if name not in raw.ch_names]
    if missing:
        montage = _montage(cleaning.channels, path)
        empty = mne.io.RawArray(
            np.zeros((len(missing), raw.n_times)),
            mne.create_info(missing, raw.info["sfreq"], "eeg", verbose="error"),
            first_samp=raw.first_samp,
            verbose="error",
        )
        raw.add_channels([empty], force_update_info=True)
        raw.set_montage(montage, verbose="error")
        raw.info["bads"] = missing
        raw.interpolate_bads(reset_bads=True, verbose="error")
    if cleaning.channels:
        raw.reorder_channels(list(cleaning.channels))


def _montage(channels: tuple[str, ...], path: Path) -> Any:
    import mne

    for name in ("GSN-HydroCel-129", "standard_1005"):
        montage = mne.channels.make_standard_montage(name)
        if set(channels) <= set(montage.ch_names):
            return montage
    raise InputError(
        f"{path}: missing channels cannot be interpolated, the positions of {_few(channels)} are not known",
        hint="channel names must be those of GSN-HydroCel-129 (E1..E128, Cz) or of the 10-05 system",
    )


def _filter(raw: Any, path: Path, cleaning: Cleaning) -> None:
    rate = float(raw.info["sfreq"])
    high = cleaning.high
    if high is not None and high >= rate / 2:
        # At the recording's own Nyquist frequency there is nothing left to cut off; above it the request is a mistake.
        if high > rate / 2:
            raise InputError(
                f"{path} is sampled at {rate:g} Hz, a band up to {high:g} Hz needs more than {2 * high:g} Hz",
                hint="lower the band's end",
            )
        high = None
    try:
        if cleaning.low is not None or high is not None:
            raw.filter(cleaning.low, high, verbose="error")
        if cleaning.sfreq is not None and cleaning.sfreq != rate:
            raw.resample(cleaning.sfreq, verbose="error")
        if cleaning.reference:
            raw.set_eeg_reference(
                "average" if cleaning.reference == "average" else [cleaning.reference],
                projection=False,
                verbose="error",
            )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} cannot be filtered or referenced: {error}", hint="see the band and reference"
        ) from None


def contest_channels(names: list[str]) -> tuple[str, ...]:
    """Return the contest's 129 channels where the recording is one of that net, else none."""
    return CHANNELS if len(set(names) & set(CHANNELS)) > len(CHANNELS) // 2 else ()

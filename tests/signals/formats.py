"""One recording in every format and situation: a narrow pulse at each stimulus says whether windows are cut in time.

python -m tests.signals.formats            # the table of format x situation
python -m tests.signals.formats --write    # writes it into docs/recordings.md
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import mne
import numpy as np

from rtserve.errors import EnvironmentMissingError
from rtserve.signals.cutting import Cut, Cutting, cut_windows
from rtserve.signals.events import EventRule
from rtserve.signals.recordings import Cleaning, open_recording

from . import vendor_formats
from .edf_files import write_discontinuous
from .pulses import (
    ANSWER_S,
    FIRST,
    JOIN,
    NAMES,
    PAUSE_S,
    RATE,
    SECONDS,
    STIMULI,
    WRONG,
    Recorded,
    annotated,
    rows_of,
    signal,
)
from .xdf_files import xdf


def _raw(*, first: int = 0, dated: bool = False, extra: Any = None) -> Any:
    """Return the recording as MNE has it, its first sample being `first`."""
    data = signal(seconds=SECONDS + first / RATE, stimuli=STIMULI + first / RATE) * 1e-6
    raw = mne.io.RawArray(data, mne.create_info(list(NAMES), RATE, "eeg", verbose="error"), verbose="error")
    if dated:
        raw.set_meas_date(1_700_000_000)
    onset = STIMULI + first / RATE
    notes = mne.Annotations(
        np.r_[onset, onset + ANSWER_S], 0.0, ["stim"] * len(onset) + ["resp"] * len(onset), raw.info["meas_date"]
    )
    raw.set_annotations(notes + extra if extra is not None else notes)
    return raw.crop(first / RATE) if first else raw


def _fif(folder: Path, **about: Any) -> Recorded:
    _raw(**about).save(folder / "x_raw.fif", fmt="double", verbose="error")
    return annotated(folder / "x_raw.fif")


def _fif_split(folder: Path) -> Recorded:
    data = signal() * 1e-6
    wide = np.tile(data, (14, 1))
    raw = mne.io.RawArray(
        wide, mne.create_info([f"EEG{k}" for k in range(len(wide))], RATE, "eeg", verbose="error"), verbose="error"
    )
    raw.set_annotations(_raw().annotations)
    raw.save(folder / "x_raw.fif", fmt="double", split_size="2MB", verbose="error")
    assert (folder / "x_raw-1.fif").exists()
    return annotated(folder / "x_raw.fif")


def _fif_skip(folder: Path) -> Recorded:
    """Two seconds that the amplifier skipped: their samples are there, and no data."""
    skip = mne.Annotations([13.0], [2.0], ["BAD_ACQ_SKIP"])
    _raw(extra=skip).save(folder / "x_raw.fif", fmt="double", verbose="error")
    return annotated(folder / "x_raw.fif")


def _fif_joined(folder: Path) -> Recorded:
    """Two recordings that were put one after the other."""
    cut, data, info = JOIN / RATE, signal() * 1e-6, mne.create_info(list(NAMES), RATE, "eeg", verbose="error")
    parts = [mne.io.RawArray(part, info, verbose="error") for part in (data[:, :JOIN], data[:, JOIN:])]
    parts[0].set_annotations(_shifted(0.0, cut))
    parts[1].set_annotations(_shifted(cut, SECONDS))
    mne.concatenate_raws(parts, verbose="error").save(folder / "x_raw.fif", fmt="double", verbose="error")
    return annotated(folder / "x_raw.fif")


def _shifted(start: float, stop: float) -> Any:
    onset = np.r_[STIMULI, STIMULI + ANSWER_S]
    names = np.array(["stim"] * len(STIMULI) + ["resp"] * len(STIMULI))
    here = (onset >= start) & (onset < stop)
    return mne.Annotations(onset[here] - start, 0.0, names[here])


def _fif_triggers(folder: Path) -> Recorded:
    data = np.vstack([signal() * 1e-6, _codes(RATE)])
    info = mne.create_info([*NAMES, "STI 014"], RATE, ["eeg"] * 3 + ["stim"], verbose="error")
    mne.io.RawArray(data, info, first_samp=FIRST, verbose="error").save(
        folder / "x_raw.fif", fmt="double", verbose="error"
    )

    def oracle() -> tuple[Any, np.ndarray]:
        raw = mne.io.read_raw_fif(folder / "x_raw.fif", preload=True, verbose="error")
        found = mne.find_events(raw, "STI 014", verbose="error")
        return raw.pick("eeg"), found[found[:, 2] == 1]

    return Recorded(path=folder / "x_raw.fif", marks=("1", "2"), oracle=oracle)


def _codes(rate: float, base: int = 0) -> np.ndarray:
    codes = np.full(len(signal(rate)[0]), base)
    for onset in STIMULI:
        codes[round(onset * rate) :][:6] = base | 1
        codes[round((onset + ANSWER_S) * rate) :][:6] = base | 2
    return codes


def _edf(folder: Path, *, seconds: float = 26.0) -> Recorded:
    data = signal(seconds=seconds)
    signals = [
        edfio.EdfSignal(row, RATE, label=name, physical_dimension="uV", physical_range=(-200, 200))
        for name, row in zip(NAMES, data, strict=True)
    ]
    notes = [edfio.EdfAnnotation(float(at), None, name) for at, name in rows_of()]
    edfio.Edf(signals, annotations=notes, data_record_duration=1.0).write(folder / "x.edf")
    return annotated(folder / "x.edf")


def _paused(folder: Path, *, ending: str) -> Recorded:
    """The recorder was paused for 30 s after 14 s."""
    later = np.where(STIMULI < 14, STIMULI, STIMULI + PAUSE_S)
    onsets = [float(k) if k < 14 else k + PAUSE_S for k in range(26)]
    path = write_discontinuous(folder / f"x.{ending}", signal(seconds=26.0), onsets, rows_of(later))
    # MNE takes it for one stretch (mne-tools/mne-python#13429)
    return Recorded(path=path, stimuli=later, why=WRONG)


def _bdf_status(folder: Path) -> Recorded:
    data = signal(seconds=26.0)
    signals = [
        edfio.BdfSignal(row, RATE, label=name, physical_dimension="uV", physical_range=(-200, 200))
        for name, row in zip(NAMES, data, strict=True)
    ]
    status = _codes(RATE, base=1 << 16)[: data.shape[1]].astype(float)
    limits = (-(1 << 23), (1 << 23) - 1)
    signals.append(edfio.BdfSignal(status, RATE, label="Status", physical_dimension="Boolean", physical_range=limits))
    edfio.Bdf(signals, data_record_duration=1.0).write(folder / "x.bdf")

    def oracle() -> tuple[Any, np.ndarray]:
        raw = mne.io.read_raw_bdf(folder / "x.bdf", preload=True, verbose="error")
        found = mne.find_events(raw, mask=0xFFFF, mask_type="and", initial_event=False, verbose="error")
        return raw.pick("eeg"), found[found[:, 2] == 1]

    return Recorded(path=folder / "x.bdf", marks=("1", "2"), oracle=oracle)


def _brainvision(folder: Path, *, paused: bool = False) -> Recorded:
    import pybv

    onset = np.round(np.r_[STIMULI, STIMULI + ANSWER_S] * RATE).astype(int)
    codes = np.r_[np.full(len(STIMULI), 1), np.full(len(STIMULI), 2)]
    pybv.write_brainvision(
        data=signal() * 1e-6, sfreq=RATE, ch_names=list(NAMES), fname_base="x", folder_out=folder,
        events=np.c_[onset, codes], resolution=0.01,
    )  # fmt: skip
    if paused:
        markers = folder / "x.vmrk"
        text = markers.read_text(encoding="utf-8").rstrip("\n")
        markers.write_text(f"{text}\nMk99=New Segment,,{JOIN + 1},1,0,20260101100014000000\n", encoding="utf-8")

    def oracle() -> tuple[Any, np.ndarray]:
        raw = mne.io.read_raw_brainvision(folder / "x.vhdr", preload=True, verbose="error")
        return raw, mne.events_from_annotations(raw, {"Stimulus/S  1": 1}, verbose="error")[0]

    return Recorded(path=folder / "x.vhdr", marks=("Stimulus/S  1", "Stimulus/S  2"), oracle=oracle)


def _eeglab(folder: Path, *, boundary: bool = False) -> Recorded:
    """EEGLAB puts a boundary between two samples and gives it the length of what was removed."""
    extra = mne.Annotations([(JOIN - 0.5) / RATE], [7.0], ["boundary"]) if boundary else None
    mne.export.export_raw(folder / "x.set", _raw(extra=extra), verbose="error")
    return annotated(folder / "x.set")


def _xdf(folder: Path, *, paused: bool = False, named: float = RATE) -> Recorded:
    """The stream says the rate `named`, which its stamps may contradict."""
    stimuli = STIMULI + PAUSE_S * (STIMULI >= JOIN / RATE) if paused else STIMULI
    stamps = 4711 + np.arange(len(signal()[0])) / RATE + PAUSE_S * (paused & (np.arange(len(signal()[0])) >= JOIN))
    marks = [(4711 + at, text) for at, text in rows_of(stimuli)]
    path = xdf(folder / "x.xdf", signal().T, stamps, marks, rate=named, names=NAMES)
    return Recorded(path=path, stimuli=stimuli, why="not read by MNE")


def _bids(folder: Path, make: Callable[[Path], Recorded]) -> Recorded:
    """Return the same file under a BIDS name, its events in the table alone."""
    made = make(folder)
    target = folder / "sub-01" / "eeg"
    target.mkdir(parents=True)
    name = "sub-01_task-x_eeg"
    for part in sorted(folder.glob("x*.*")):
        moved = target / f"{name}{part.suffix}"
        if part.suffix in (".vhdr", ".vmrk"):
            moved.write_text(part.read_text(encoding="utf-8").replace("x.", f"{name}."), encoding="utf-8")
        else:
            part.rename(moved)
    rows = "".join(f"{at!r}\tn/a\tshow/{text}\n" for at, text in rows_of(made.stimuli))
    (target / "sub-01_task-x_events.tsv").write_text(f"onset\tduration\ttrial_type\n{rows}", encoding="utf-8")
    return Recorded(
        path=target / f"{name}{made.path.suffix}",
        stimuli=made.stimuli,
        marks=("show/stim", "show/resp"),
        why=made.why or "from events.tsv",
    )


MAKERS: dict[str, Callable[[Path], Recorded]] = {
    "FIF, undated": _fif,
    "FIF, dated": lambda folder: _fif(folder, dated=True),
    "FIF, cropped, undated": lambda folder: _fif(folder, first=FIRST),
    "FIF, cropped, dated": lambda folder: _fif(folder, first=FIRST, dated=True),
    "FIF, split into files": _fif_split,
    "FIF, BAD_ACQ_SKIP": _fif_skip,
    "FIF, two joined (EDGE)": _fif_joined,
    "FIF, triggers (STI 014)": _fif_triggers,
    "EDF+C": _edf,
    "EDF+D, paused": lambda folder: _paused(folder, ending="edf"),
    "BDF+D, paused": lambda folder: _paused(folder, ending="bdf"),
    "BDF, triggers (Status)": _bdf_status,
    "BrainVision": _brainvision,
    "BrainVision, New Segment": lambda folder: _brainvision(folder, paused=True),
    "EEGLAB": _eeglab,
    "EEGLAB, boundary": lambda folder: _eeglab(folder, boundary=True),
    "XDF": _xdf,
    "XDF, paused": lambda folder: _xdf(folder, paused=True),
    "XDF, says 500 Hz": lambda folder: _xdf(folder, named=500.0),
    "EEGLAB, in epochs": vendor_formats.in_eeglab_epochs,
    "EEGLAB, MATLAB v7.3": vendor_formats.in_eeglab_hdf5,
    "GDF 2.20": vendor_formats.in_gdf,
    "GDF 2.10, dated, table of mode 1": lambda folder: vendor_formats.in_gdf(
        folder, version="2.10", dated=True, mode=1
    ),
    "GDF 1.25, dated, long records": lambda folder: vendor_formats.in_gdf(folder, version="1.25", dated=True, per=64),
    "GDF, new segment": lambda folder: vendor_formats.in_gdf(folder, segment=True),
    "GDF, events at 1024 Hz": lambda folder: vendor_formats.in_gdf(folder, event_rate=1024.0, why=WRONG),
    "Neuroscan CNT, 32 bits": vendor_formats.in_cnt,
    "Neuroscan CNT, 16 bits, in blocks": lambda folder: vendor_formats.in_cnt(
        folder, wide=False, kind=1, block=16, baseline=33
    ),
    "Neuroscan CNT, discontinuity": lambda folder: vendor_formats.in_cnt(folder, broken=True),
    "Neuroscan CNT, table of type 3": lambda folder: vendor_formats.in_cnt(folder, kind=3, why=WRONG),
    "EGI MFF": vendor_formats.in_mff,
    "EGI MFF, paused": lambda folder: vendor_formats.in_mff(folder, paused=True),
    "EGI MFF, begins late": lambda folder: vendor_formats.in_mff(folder, late=2.0),
    "BIDS, FIF cropped": lambda folder: _bids(folder, lambda f: _fif(f, first=FIRST, dated=True)),
    "BIDS, EDF": lambda folder: _bids(folder, _edf),
    "BIDS, EDF+D paused": lambda folder: _bids(folder, lambda f: _paused(f, ending="edf")),
    "BIDS, BDF": lambda folder: _bids(folder, _bdf_status),
    "BIDS, BrainVision": lambda folder: _bids(folder, _brainvision),
    "BIDS, EEGLAB": lambda folder: _bids(folder, _eeglab),
}
_GAPS = ("paused", "SKIP", "EDGE", "egment", "boundary", "discontinuity", "in epochs")
GAPPED = {name for name in MAKERS if any(word in name for word in _GAPS)}


def needs(name: str) -> str:
    """Return the package that MNE reads or the tests write a recording with, empty where there is none."""
    words = {"MFF": "mffpy", "XDF": "pyxdf", "v7.3": "pymatreader", "EEGLAB": "eeglabio", "BrainVision": "pybv"}
    return next((package for word, package in words.items() if word in name), "")


def cut(made: Recorded, rate: float | None, *, start: float = -0.5, stop: float = 0.5) -> tuple[Cut, float]:
    """Return the windows around the stimuli, and their rate."""
    rule = EventRule(stimulus=(made.marks[0],), response=(made.marks[1],))
    ready = open_recording(made.path, Cleaning(low=None, high=None, sfreq=rate))
    return cut_windows(ready, Cutting(rule=rule, start=start, stop=stop)), ready.clock.rate


def lateness_s(X: np.ndarray, rate: float, *, start: float = -0.5) -> np.ndarray:
    """Return how late the middle of each window's pulse is after the window's sample of the stimulus, in s."""
    above = (X.mean(axis=1, dtype="f8") - 5e-6).clip(0)
    return ((above * np.arange(X.shape[2])).sum(axis=1) / above.sum(axis=1) + round(start * rate)) / rate


def expected_s(made: Recorded, rate: float) -> np.ndarray:
    """Return how late a pulse is after the sample nearest to it; every stretch begins at a whole second."""
    place = made.stimuli * rate
    return np.asarray((place - np.rint(place)) / rate)


def by_mne(made: Recorded, *, start: float = -0.5, stop: float = 0.5) -> np.ndarray | None:
    """Return the windows as MNE's own epochs have them at the recording's own rate."""
    if made.oracle is None:
        return None
    raw, events = made.oracle()
    epochs = mne.Epochs(
        raw, events, tmin=start, tmax=stop - 1 / RATE, baseline=None, preload=True, picks="eeg", verbose="error"
    )
    return np.asarray(epochs.get_data(copy=False), np.float32)


def situations(name: str, made: Recorded) -> dict[str, str]:
    """Return one row of the table: what was found in each situation."""
    row = {}
    for label, rate in (("own rate", None), ("100 Hz", 100.0), ("128 Hz", 128.0), ("333 Hz", 333.0)):
        found, true_rate = cut(made, rate)
        nearest = np.abs(found.onset_s[:, None] - made.stimuli).argmin(axis=1)
        off = lateness_s(found.X, true_rate) - expected_s(made, true_rate)[nearest]
        row[label] = f"{len(found.X)} of {len(made.stimuli)}, {1000 * np.abs(off).max():.1f} ms"
    own, mnes = cut(made, None)[0], by_mne(made)
    row["MNE's epochs"] = made.why
    if mnes is not None:
        row["MNE's epochs"] = "same" if np.array_equal(own.X, mnes) else "DIFFERENT"
    if name in GAPPED:
        far, _ = cut(made, None, start=0.0, stop=4.0)
        row["across the gap"] = f"{far.dropped['across a gap of the recording']} dropped"
    return row


COLUMNS = ("own rate", "100 Hz", "128 Hz", "333 Hz", "MNE's epochs", "across the gap")


def table() -> str:
    """Return the table of docs/recordings.md."""
    lines = [f"| recording | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, make in MAKERS.items():
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                row = situations(name, make(Path(folder)))
            except (ImportError, EnvironmentMissingError) as error:
                raise SystemExit(f"{name} needs a package: {error}") from None
        lines.append(f"| {name} | {' | '.join(row.get(column, '') for column in COLUMNS)} |")
    return "\n".join(lines) + "\n"


DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "recordings.md"
BEGIN, END = "<!-- table: python -m tests.signals.formats --write -->\n", "<!-- end of table -->\n"


def written() -> str:
    """Return the table that stands in the document."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    made_now = table()
    if "--write" in sys.argv:
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        DOCUMENT.write_text(before + BEGIN + made_now + END + rest.partition(END)[2], encoding="utf-8")
    print(made_now)

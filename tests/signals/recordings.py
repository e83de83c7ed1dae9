"""Small recordings that the tests write: a BIDS folder of BDF files in the shape of HBN-EEG."""

from __future__ import annotations

import edfio
import numpy as np

NAMES = tuple(f"E{i}" for i in range(1, 9))


def brain(seconds=40, rate=200, n=8, seed=0, microvolt=20.0):
    """Pink-ish noise (n, samples) in microvolt."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n, seconds * rate))
    spectrum = np.fft.rfft(white, axis=1) / np.sqrt(np.maximum(np.arange(seconds * rate // 2 + 1), 1))
    pink = np.fft.irfft(spectrum, seconds * rate, axis=1)
    return microvolt * pink / pink.std()


def write_bdf(path, data, *, rate=200, names=NAMES, unit="uV"):
    path.parent.mkdir(parents=True, exist_ok=True)
    limit = float(np.abs(data).max()) * 1.1
    signals = [
        edfio.BdfSignal(row, rate, label=name, physical_dimension=unit, physical_range=(-limit, limit))
        for name, row in zip(names, data, strict=True)
    ]
    edfio.Bdf(signals).write(path)
    return path


def trials(n=6, first=2.0, gap=5.5, fore=1.0, answered=lambda k: True):
    """Rows of an events.tsv: trial start, target, button press, and the end; response times 0.4, 0.5, ..."""
    rows, times = [], []
    for k in range(n):
        start = first + gap * k
        rows += [(start, "contrastTrial_start"), (start + fore, ("left", "right")[k % 2] + "_target")]
        rows.append((start + fore - 0.2, "right_buttonPress"))  # before the target: not an answer
        if answered(k):
            times.append(round(0.4 + 0.1 * k, 3))
            rows.append((start + fore + times[-1], "left_buttonPress"))
            rows.append((start + fore + times[-1] + 0.3, "left_buttonPress"))  # a second press does not count
    return [*sorted(rows), (first + gap * n, "end_experiment")], times


def write_events(recording, rows):
    table = recording.with_name(recording.name.replace("_eeg.bdf", "_events.tsv"))
    table.write_text("onset\tduration\tvalue\n" + "".join(f"{onset:.4f}\tn/a\t{name}\n" for onset, name in rows))


def write_bids(folder, subjects=("NDARA", "NDARB"), runs=(1, 2), seed=0, **change):
    for s, subject in enumerate(subjects):
        for run in runs:
            name = f"sub-{subject}_task-contrastChangeDetection_run-{run}_eeg.bdf"
            path = folder / f"sub-{subject}" / "eeg" / name
            write_bdf(path, brain(seed=seed + 10 * s + run), **change)
            write_events(path, trials()[0])
    rows = "".join(f"sub-{subject}\t{0.5 * k}\n" for k, subject in enumerate(subjects))
    (folder / "participants.tsv").write_text("participant_id\texternalizing\n" + rows)
    return folder

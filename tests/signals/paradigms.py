"""Classic experiments in miniature, as BIDS folders: what is shown, when, and a bump in the EEG that follows it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from .recordings import NAMES, brain, write_bdf

RATE = 200
BUMP_S = 0.3


@dataclass(frozen=True, kw_only=True)
class Paradigm:
    """Names in their order, seconds between events, window, and which channel each name's bump is on."""

    names: tuple[str, ...]
    gap: float
    window: str
    n: int = 12


PARADIGMS = {
    # Oddball: BIDS' own example calls the trial types so; a target is rare and windows overlap.
    "p300": Paradigm(names=("standard", "standard", "target"), gap=0.5, window="-0.1,0.7", n=36),
    "motor_imagery": Paradigm(names=("left_hand", "right_hand"), gap=2.5, window="0,2"),
    "ssvep": Paradigm(names=("8 Hz", "15 Hz"), gap=2.5, window="0,2"),
    "n170": Paradigm(names=("face", "house"), gap=1.0, window="-0.1,0.5"),
}


def shown(paradigm: Paradigm, seed: int) -> list[tuple[float, str]]:
    """Return onsets in s and names."""
    order = np.random.default_rng(seed).permutation(paradigm.n) % len(paradigm.names)
    return [(2.0 + paradigm.gap * k, paradigm.names[i]) for k, i in enumerate(order)]


def write_paradigm(folder, paradigm, *, subjects=("01", "02", "03", "04"), runs=(1,), columns=None, name="mini"):
    """Write the recordings with events.tsv and participants.tsv; return subject and run to what was shown."""
    classes = sorted(set(paradigm.names))
    said = {}
    for s, subject in enumerate(subjects):
        for run in runs:
            rows = shown(paradigm, 10 * s + run)
            said[f"sub-{subject}", run] = rows
            seconds = int(rows[-1][0] + 5)
            data, time = 0.1 * brain(seconds=seconds, rate=RATE, seed=10 * s + run), np.arange(seconds * RATE) / RATE
            for onset, what in rows:
                data[classes.index(what)] += 40 * np.exp(-0.5 * ((time - onset - BUMP_S) / 0.02) ** 2)
            path = folder / f"sub-{subject}" / "eeg" / f"sub-{subject}_task-{name}_run-{run}_eeg.bdf"
            write_bdf(path, data, rate=RATE)
            more = columns(rows) if columns else {}
            head = "\t".join(["onset", "duration", "trial_type", "value", *more])
            lines = [
                "\t".join([f"{onset:.3f}", "0.1", what, str(1 + classes.index(what)), *(more[c][k] for c in more)])
                for k, (onset, what) in enumerate(rows)
            ]
            table = path.with_name(path.name.replace("_eeg.bdf", "_events.tsv"))
            table.write_text("\n".join([head, *lines]) + "\n")
    people = "".join(f"sub-{s}\t{20 + i}\t{'FM'[i % 2]}\n" for i, s in enumerate(subjects))
    (folder / "participants.tsv").write_text("participant_id\tage\tsex\n" + people)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": name, "BIDSVersion": "1.9.0"}))
    return said


__all__ = ["BUMP_S", "NAMES", "PARADIGMS", "Paradigm", "shown", "write_paradigm"]

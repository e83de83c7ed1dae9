"""``python3 -m detector INPUT OUTPUT``: a recording in, a table of events out.

Exit code 0: the table is there. What was odd about the recording is said on stderr, and where it cannot be answered at all
the last line there says why and the table says that nothing was found: a contest whose evaluation ends with the first
command that fails would lose every other recording. Exit code 2: there is no header to write a table from.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .events import events_of, table_of
from .network import answers, probabilities, window_starts
from .recording import Recording, Unusable, open_edf
from .samples import samples_for

MODEL = Path(__file__).resolve().parent.parent / "model"


def main(source: str, target: str, model: Path = MODEL) -> int:
    """Write the table of one recording; return the exit code."""
    settings = json.loads((model / "detector.json").read_text("utf-8"))
    try:
        recording = open_edf(source)
    except Unusable as error:
        _say(f"error: {error}")
        return 2
    try:
        text = detected(recording, settings, model)
    except (Unusable, MemoryError) as error:
        _say(f"error: {error}" if isinstance(error, Unusable) else f"error: {recording.name} does not fit into memory")
        text = table_of([], settings["table"], seconds=recording.seconds, start=recording.start)
    # In place: a contest may hand over a file that others may write, in a folder that they may not.
    with open(target, "w", encoding="utf-8", newline="\n") as handle:
        handle.write(text)
    return 0


def detected(recording: Recording, settings: dict[str, Any], model: Path) -> str:
    """Return the table of a recording; `model` is the folder of the network. Raises `Unusable`."""
    _say(*recording.notes)
    if recording.refused:
        raise Unusable(recording.refused)
    begun = time.perf_counter()
    rate, n_times, hop = settings["samples"]["sfreq"], settings["n_times"], settings["hop"]
    x, notes = samples_for(recording, settings["samples"])
    _say(*notes)
    read = time.perf_counter()
    threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    y = answers(str(model / settings["network"]), x, n_times=n_times, hop=hop, threads=threads)
    done = time.perf_counter()
    starts = window_starts(x.shape[1], n_times, hop)
    if not len(starts):
        _say(f"{recording.name} holds {x.shape[1] / rate:g} s, less than a window of {n_times / rate:g} s")
        return table_of([], settings["table"], seconds=recording.seconds, start=recording.start)
    if not np.isfinite(y).all():
        raise Unusable(f"the network answers {recording.name} with what is no number")
    scores = probabilities(y, settings["score"])
    centres = (starts + n_times / 2) / rate
    found = events_of(scores, centres, recording.there, **settings["events"])
    _say(f"read {read - begun:.3f} s, network {done - read:.3f} s for {len(y)} windows, {threads} thread")
    quiet = 1 - float(scores.max())
    return table_of(found, settings["table"], seconds=recording.seconds, start=recording.start, quiet=quiet)


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        _say(f"error: {len(sys.argv) - 1} arguments; give the recording and the table to write")
        sys.exit(2)
    sys.exit(main(sys.argv[1], sys.argv[2]))

"""Small recordings in formats that MNE reads and does not write, as their published descriptions have them.

GDF: arxiv.org/abs/cs/0608052 (2.x) and its forerunner 1.25. Neuroscan .cnt: paulbourke.net/dataformats/eeg. EGI .mff: a
folder of XML and of one binary file. Epoched .set: a MATLAB structure as EEGLAB saves it. Data in microvolt (n_chans, n).
"""

from __future__ import annotations

import datetime
import itertools
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Events = Sequence[tuple[int, int]]
"""(sample from 0, number) of each."""
RANGE_UV = 200.0
"""Of the formats with whole numbers."""


def _fixed(values, sizes):
    return b"".join(str(v).encode().ljust(size, b"\0")[:size] for v, size in zip(values, sizes, strict=True))


def gdf(
    path: Path, data: np.ndarray, rate: float, events: Events, *, names: Sequence[str], version: str = "2.20",
    mode: int = 3, event_rate: float | None = None, dated: bool = False, records: int | None = None, per: int = 1,
) -> Path:  # fmt: skip
    """Write a .gdf of 16-bit samples, `per` to a record; events count at `event_rate`, which is the samples' if None."""
    n_chans, n = data.shape[0], data.shape[1] // per * per
    new = float(version) > 1.9
    head = f"GDF {version}".encode()
    length = struct.pack("<II", *((1, int(rate)) if per == 1 else (per, int(rate))))
    if new:
        days = (datetime.date(2026, 1, 1).toordinal() + 366 + 0.25) * 2**32 if dated else 0
        head += b"X X".ljust(66) + bytes(14) + b"run".ljust(64) + bytes(16) + struct.pack("<QQ", int(days), 0)
        head += struct.pack("<H", 1 + n_chans) + bytes(6 + 8 + 6 + 6 + 24)
        head += struct.pack("<q", n // per if records is None else records) + length + struct.pack("<HH", n_chans, 0)
    else:
        head += b"X X".ljust(80) + b"run".ljust(80) + (b"2026010106000000" if dated else b" " * 16)
        head += struct.pack("<q", 256 * (1 + n_chans)) + bytes(8 * 3 + 20)
        head += struct.pack("<q", n // per if records is None else records) + length + struct.pack("<I", n_chans)
    assert len(head) == 256
    ones = np.ones(n_chans)
    head += _fixed(names, [16] * n_chans) + bytes(80 * n_chans)
    head += bytes(6 * n_chans) + struct.pack("<H", 4275) * n_chans if new else _fixed(["uV"] * n_chans, [8] * n_chans)
    head += (-RANGE_UV * ones).tobytes() + (RANGE_UV * ones).tobytes()
    digital = (ones * 32767).astype("<f8" if new else "<i8")
    head += (-digital).tobytes() + digital.tobytes()
    head += bytes(68 * n_chans) + (0 * ones).astype("<f4").tobytes() * 3 if new else bytes(80 * n_chans)
    head += np.full(n_chans, per, "<i4").tobytes() + np.full(n_chans, 3, "<i4").tobytes() + bytes(32 * n_chans)
    assert len(head) == 256 * (1 + n_chans)
    whole = np.rint(data[:, :n] / RANGE_UV * 32767).astype("<i2")
    body = whole.reshape(n_chans, -1, per).transpose(1, 0, 2).tobytes()
    factor = 1.0 if event_rate is None else event_rate / rate
    counted = event_rate or rate
    places = np.array([round(at * factor) + 1 for at, _ in events], "<u4")  # counted from 1
    rows = places.tobytes() + np.array([code for _, code in events], "<u2").tobytes()
    if mode == 3:
        rows += np.zeros(len(events), "<u2").tobytes() + np.ones(len(events), "<u4").tobytes()
    head_of_events = bytes([mode])
    if new:
        head_of_events += len(events).to_bytes(3, "little") + struct.pack("<f", counted)
    else:
        head_of_events += int(counted).to_bytes(3, "little") + struct.pack("<I", len(events))
    path.write_bytes(head + body + head_of_events + rows)
    return path


CNT_LATE = 1
"""MNE has an event one sample before the one at its place in the file; see `rtserve.signals.neuroscan`."""


def cnt(
    path: Path, data: np.ndarray, rate: int, events: Events, *, names: Sequence[str], wide: bool = True, kind: int = 2,
    accepts: Sequence[int] | None = None, samples: int | None = None, block: int = 1, baseline: int = 0,
) -> Path:  # fmt: skip
    """Write a Neuroscan .cnt of 32- or 16-bit samples, one sample of all channels after the other or in blocks."""
    n_chans, n = data.shape
    size, top = (4, 2**23) if wide else (2, 2**15 - 1)
    data_at = 900 + 75 * n_chans
    table_at = data_at + n * n_chans * size
    head = bytearray(900)
    head[:12] = b"Version 3.0".ljust(12, b"\0")
    head[225:235], head[235:247] = b"01/31/26".ljust(10, b"\0"), b"10:00:00".ljust(12, b"\0")
    head[370:372], head[376:378] = struct.pack("<H", n_chans), struct.pack("<H", rate)
    head[864:868] = struct.pack("<i", n if samples is None else samples)
    head[886:890] = struct.pack("<i", table_at)
    head[894:898] = struct.pack("<i", block * size if block > 1 else 0)
    out = bytes(head)
    for k, name in enumerate(names):
        row = bytearray(75)
        row[19:27] = struct.pack("<ff", k, 1.0)
        row[:10] = name.encode().ljust(10, b"\0")
        row[47:49] = struct.pack("<h", baseline)
        row[59:63], row[71:75] = struct.pack("<f", 204.8), struct.pack("<f", RANGE_UV / top)
        out += bytes(row)
    whole = (np.rint(data / RANGE_UV * top) + baseline).astype(f"<i{size}")
    out += (whole.reshape(n_chans, -1, block).transpose(1, 0, 2) if block > 1 else whole.T).tobytes()
    rows = b""
    for at, code, accept in zip(*zip(*events, strict=True), accepts or [0] * len(events), strict=True):
        offset = at if kind == 3 else data_at + at * n_chans * size
        rows += struct.pack("<HBBi", code, 0, accept, offset) + (bytes(11) if kind > 1 else b"")
    path.write_bytes(out + struct.pack("<Bii", kind, len(rows), 0) + rows)
    return path


def mff(
    path: Path, data: np.ndarray, rate: int, events: Sequence[tuple[float, str]], *, parts: Sequence[tuple[int, int]],
    names: Sequence[str],
) -> Path:  # fmt: skip
    """Write an .mff: `data` are the samples of all `parts`, which are (begin, end) in samples from its record time."""
    path.mkdir()
    start = datetime.datetime(2026, 1, 31, 10, tzinfo=datetime.UTC)

    def xml(name, root, space, inner):
        text = f'<?xml version="1.0" encoding="UTF-8"?><{root} xmlns="http://www.egi.com/{space}_mff">{inner}</{root}>'
        (path / name).write_text(text, encoding="utf-8")

    def when(seconds):
        return (start + datetime.timedelta(seconds=seconds)).isoformat(timespec="microseconds")

    sensors = "".join(
        f"<sensor><name>{name}</name><number>{k}</number><type>0</type><x>{k}</x><y>1</y><z>2</z></sensor>"
        for k, name in enumerate(names, 1)
    )
    xml("info.xml", "fileInfo", "info", f"<mffVersion>3</mffVersion><recordTime>{when(0)}</recordTime>")
    kind = "<generalInformation><fileDataType><EEG><sensorLayout>x</sensorLayout></EEG></fileDataType>"
    xml("info1.xml", "dataInfo", "info_n", kind + "</generalInformation>")
    xml("sensorLayout.xml", "sensorLayout", "sensorLayout", f"<name>x</name><sensors>{sensors}</sensors>")
    layout = f"<sensorLayout><name>x</name><sensors>{sensors}</sensors></sensorLayout>"
    xml("coordinates.xml", "coordinates", "coordinates", layout)
    rows = "".join(
        f"<epoch><beginTime>{a * 1_000_000 // rate}</beginTime><endTime>{b * 1_000_000 // rate}</endTime>"
        f"<firstBlock>{k}</firstBlock><lastBlock>{k}</lastBlock></epoch>"
        for k, (a, b) in enumerate(parts, 1)
    )
    xml("epochs.xml", "epochs", "epochs", rows)
    shown = "".join(
        f"<event><beginTime>{when(at)}</beginTime><duration>0</duration><code>{code}</code></event>"
        for at, code in events
    )
    track = "<name>Events</name><trackType>EVNT</trackType>"
    xml("Events_Stim.xml", "eventTrack", "event", track + shown)
    n_chans, blocks = len(data), b""
    edges = [0, *itertools.accumulate(b - a for a, b in parts)]
    for begin, end in itertools.pairwise(edges):
        n = end - begin
        blocks += struct.pack("<4i", 1, 16 + 8 * n_chans + 4, 4 * n * n_chans, n_chans)
        blocks += (4 * n * np.arange(n_chans)).astype("<i4").tobytes()
        blocks += np.full(n_chans, rate << 8 | 32, "<i4").tobytes() + bytes(4)
        blocks += data[:, begin:end].astype("<f4").tobytes()
    (path / "signal1.bin").write_bytes(blocks)
    return path


def epoched_set(
    path: Path, data: np.ndarray, rate: float, events: Sequence[tuple[int, str]], *, names: Sequence[str], trials: int,
    zero: int,
) -> Path:  # fmt: skip
    """Write a .set of `trials` epochs of equal length, each locked to an event ``lock`` at its sample `zero`."""
    from scipy.io import savemat

    n_chans, n = data.shape
    size = n // trials
    every = sorted([*events, *((k * size + zero, "lock") for k in range(trials))])
    rows = np.array(
        [(at + 1.0, name, at // size + 1.0, k + 1.0) for k, (at, name) in enumerate(every)],
        [("latency", "O"), ("type", "O"), ("epoch", "O"), ("urevent", "O")],
    )
    own = [[k for k, (at, _) in enumerate(every) if at // size == trial] for trial in range(trials)]
    epochs = np.array(
        [
            (
                np.array([k + 1.0 for k in mine]),
                np.array([(every[k][0] - trial * size - zero) / rate * 1000 for k in mine], object),
                np.array([every[k][1] for k in mine], object),
            )
            for trial, mine in enumerate(own)
        ],
        [("event", "O"), ("eventlatency", "O"), ("eventtype", "O")],
    )
    locs = np.array([(name,) for name in names], [("labels", "O")])
    cut = data[:, : trials * size].reshape(n_chans, trials, size).transpose(0, 2, 1).astype("f4")
    content = {
        "setname": "x", "nbchan": n_chans, "trials": trials, "pnts": size, "srate": rate, "xmin": -zero / rate,
        "xmax": (size - 1 - zero) / rate, "data": cut, "event": rows, "epoch": epochs, "chanlocs": locs,
        "icawinv": [], "icaweights": [], "icasphere": [], "icaact": [], "ref": "common", "times": [],
    }  # fmt: skip
    savemat(path, {"EEG": content}, appendmat=False, oned_as="row")
    return path


def matlab73_set(
    path: Path, data: np.ndarray, rate: float, events: Sequence[tuple[int, str]], *, names: Sequence[str]
) -> Path:
    """Write a .set in MATLAB's v7.3 format, which is HDF5 behind 512 bytes."""
    import h5py

    def put(group, name, value):
        text = isinstance(value, str)
        stored = np.array([[ord(letter)] for letter in value], "u2") if text else np.atleast_2d(np.asarray(value, "f8"))
        group.create_dataset(name, data=stored).attrs["MATLAB_class"] = np.bytes_("char" if text else "double")

    def put_each(eeg, name, columns):
        group = eeg.create_group(name)
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for key, values in columns.items():
            for k, value in enumerate(values):
                put(refs, f"{name}{key}{k}", value)
            links = [[refs[f"{name}{key}{k}"].ref] for k in range(len(values))]
            group.create_dataset(key, data=np.array(links, h5py.ref_dtype), dtype=h5py.ref_dtype)

    with h5py.File(path, "w", userblock_size=512) as archive:
        refs, eeg = archive.create_group("#refs#"), archive.create_group("EEG")
        eeg.attrs["MATLAB_class"] = np.bytes_("struct")
        about = {"nbchan": len(data), "trials": 1, "pnts": data.shape[1], "srate": rate, "xmin": 0, "setname": "x"}
        for name, value in about.items():
            put(eeg, name, value)
        put(eeg, "data", data.T)
        put_each(eeg, "chanlocs", {"labels": names})
        put_each(eeg, "event", {"latency": [at + 1 for at, _ in events], "type": [name for _, name in events]})
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    path.write_bytes(head.ljust(512, b"\0") + path.read_bytes()[512:])
    return path

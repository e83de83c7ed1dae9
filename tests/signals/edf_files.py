"""Small EDF+D and BDF+D files that the tests write, by the published format: records that carry their own times."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NAMES = ("Fz", "Cz", "Pz")


def write_discontinuous(path: Path, data: np.ndarray, onsets: list[float], notes: list[tuple[float, str]]) -> Path:
    """Write an EDF+D or BDF+D of records of 1 s that begin at `onsets`; `data` in microvolt (n, seconds * rate)."""
    wide = path.suffix == ".bdf"
    width, high, n_notes = (3, 8_388_607, 40) if wide else (2, 32_767, 60)
    kind, rate = "BDF+D" if wide else "EDF+D", data.shape[1] // len(onsets)
    labels = [*NAMES, "BDF Annotations" if wide else "EDF Annotations"]
    columns: list[tuple[list[object], int]] = [
        (list(labels), 16), ([""] * 4, 80), (["uV"] * 3 + [""], 8), ([-200] * 3 + [-1], 8), ([200] * 3 + [1], 8),
        ([-high - 1] * 4, 8), ([high] * 4, 8), ([""] * 4, 80), ([rate] * 3 + [n_notes], 8), ([""] * 4, 32),
    ]  # fmt: skip
    fields = [
        ("" if wide else "0", 8),
        ("X X X X", 80),
        ("Startdate 01-JAN-2026 X X X", 80),
        ("01.01.26", 8),
        ("10.00.00", 8),
        (256 * 5, 8),
        (kind, 44),
        (len(onsets), 8),
        (1, 8),
        (4, 4),
    ]
    head = b"".join(str(value).ljust(size).encode() for value, size in fields)
    head = b"\xffBIOSEMI" + head[8:] if wide else head
    head += b"".join(str(value).ljust(size).encode() for values, size in columns for value in values)
    digital = np.clip(np.round((data + 200) / 400 * (2 * high + 1) - high - 1), -high - 1, high).astype("<i4")
    with open(path, "wb") as handle:
        handle.write(head)
        for record, onset in enumerate(onsets):
            for row in digital[:, record * rate : (record + 1) * rate]:
                handle.write(row.astype("<i4").view("u1").reshape(-1, 4)[:, :width].tobytes())
            own = [(at, text) for at, text in notes if onset <= at < onset + 1]
            text = f"+{onset:.9g}\x14\x14\x00" + "".join(f"+{at:.9g}\x14{name}\x14\x00" for at, name in own)
            handle.write(text.encode().ljust(n_notes * width, b"\0"))
    return path

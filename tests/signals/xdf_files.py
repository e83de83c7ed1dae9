"""Small .xdf files that the tests write: one stream of EEG and one of markers, each sample with its time stamp."""

from __future__ import annotations

import struct


def chunk(tag, content):
    return struct.pack("<BI", 4, len(content) + 2) + struct.pack("<H", tag) + content


def stream(n, head, samples):
    return chunk(2, struct.pack("<I", n) + head.encode()) + chunk(3, struct.pack("<I", n) + samples)


def xdf(
    path, data, stamps, texts, *, rate=200.0, unit="microvolts", offsets=(), footer=None, ints=False, names=("Fz", "Cz")
):
    """Write an .xdf of one EEG stream (n, n_chans) and one of markers; offsets (time, value) are of the markers' clock."""
    channels = "".join(f"<channel><label>{n}</label><unit>{unit}</unit></channel>" for n in names)
    eeg = (
        f"<info><name>amp</name><type>EEG</type><channel_count>{len(names)}</channel_count><nominal_srate>{rate}</nominal_srate>"
        f"<channel_format>float32</channel_format><desc><channels>{channels}</channels></desc></info>"
    )
    marks = (
        "<info><name>marks</name><type>Markers</type><channel_count>1</channel_count><nominal_srate>0</nominal_srate>"
        f"<channel_format>{'int32' if ints else 'string'}</channel_format><desc></desc></info>"
    )
    rows = [struct.pack("<Bd", 8, at) + row.astype("<f4").tobytes() for at, row in zip(stamps, data, strict=True)]
    said = [
        struct.pack("<Bd", 8, at) + (struct.pack("<i", x) if ints else struct.pack("<BB", 1, len(x)) + x.encode())
        for at, x in texts
    ]
    out = b"XDF:" + chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")
    out += stream(1, eeg, struct.pack("<BI", 4, len(rows)) + b"".join(rows))
    out += stream(2, marks, struct.pack("<BI", 4, len(said)) + b"".join(said))
    out += b"".join(chunk(4, struct.pack("<Idd", 2, at, value)) for at, value in offsets)
    if footer is not None:
        out += chunk(6, struct.pack("<I", 1) + f"<info><sample_count>{footer}</sample_count></info>".encode())
    path.write_bytes(out)
    return path

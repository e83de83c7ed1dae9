"""What README.md may show otherwise on another machine, by kind of text: each kind has a mask, and each mask its proof.

Sums are taken in another order on another processor, so trained weights differ in their last bits, and with them every
digest, size and decimal that hangs on them; times differ everywhere; a machine isolates by the means it has. Words and
counts (nodes, parameters, channels, members, windows, subjects, checks) are the same everywhere, and stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rtserve.submission.sandbox import KINDS

_NUMBER = r"-?[0-9][0-9,]*(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?"
_DECIMAL = r"-?[0-9]+(?:\.[0-9]+(?:e[-+]?[0-9]+)?|e[-+]?[0-9]+)"


@dataclass(frozen=True, kw_only=True)
class Mask:
    """One kind of text.

    Parameters
    ----------
    kind : str
        What it is called, and what stands in for it.
    pattern : str
        Matched line by line; its groups stay.
    alike : (str, str)
        Two machines' lines that are the same but for this kind.
    other : str
        A line that says something else than either, and must not be taken for them.
    """

    kind: str
    pattern: str
    alike: tuple[str, str]
    other: str


MASKS = (
    Mask(
        kind="REMARK",  # dropped with its line: what a machine's load, or what it lacks, makes a command add
        pattern=r"^ *(?:note|unstable): .*",
        alike=("note: p99 needs 500 bursts; there were 360", "  unstable: the slowest takes 3 times the fastest"),
        other="next: note: upload submission.zip",
    ),
    Mask(
        kind="DIGEST",
        pattern=r"\b[0-9a-f]{12,64}\b",
        alike=(f"sha256  {'a1' * 32}", f"sha256  {'0f' * 32}"),
        other="sha256  none",
    ),
    Mask(
        kind="PROBE",
        pattern=r"(allowed \S+\)) on .+?(?=, \d+ inputs)",
        alike=(
            "worst N (allowed N) on white noise x 0.001, batch 5, 14 inputs",
            "worst N (allowed N) on constant windows, batch 1, 14 inputs",
        ),
        other="worst N (allowed N) on constant windows, batch 1, 15 inputs",
    ),
    Mask(
        kind="VERSION",
        pattern=r"\b(Python|torch) [0-9][0-9a-z.+]*",
        alike=("(Python 3.11.7, torch 2.13.0+cpu)", "(Python 3.13.0, torch 2.13.0)"),
        other="(PyPy 3.11.7, torch 2.13.0)",
    ),
    Mask(
        kind="ISOLATION",
        pattern=rf"\bin (?:{'|'.join(KINDS)})(?= \()",
        alike=(f"6 checks in {KINDS[0]} (here)", f"6 checks in {KINDS[-1]} (here)"),
        other="6 checks in nothing (here)",
    ),
    Mask(
        kind="TIMES",
        pattern=rf"(\[[a-z]+\](?: x \d+)?)(?: +(?:{_NUMBER}|-))+$",
        alike=("F.onnx [openvino] x 10   481.8   514 572.4   2,077", "F.onnx [openvino] x 10   48   51.4 -   20,077"),
        other="F.onnx [openvino] x 20   481.8   514 572.4   2,077",
    ),
    Mask(
        kind="SPEED",
        pattern=rf"(takes ){_DECIMAL} \[[^\]]*\](?: of it: ){_NUMBER} times as (?:fast|long)(?: +\([^)]*\))?$",
        alike=(
            "takes 0.318 [0.318, 0.320] of it: 3.14 times as fast",
            "takes 0.9 [0.2, 1] of it: 1 times as long   (no)",
        ),
        other="takes 0.318 of it",
    ),
    Mask(
        kind="SECONDS",
        pattern=rf"{_NUMBER}(?= (?:s|us|min)\b)",
        alike=("time: 12 us a window, 1.5 min", "time: 1133 us a window, 2 min"),
        other="time: 12 us a recording, 2 min",
    ),
    Mask(
        kind="SIZE",
        pattern=r"\b[0-9][0-9,]*(?= bytes\b)",
        alike=("F.onnx  1,069,594 bytes", "F.onnx  998 bytes"),
        other="F.onnx  1,069,594 nodes",
    ),
    Mask(
        kind="ROUNDS",
        pattern=r"\b[0-9]+(?= rounds by turns\b)",
        alike=("1 thread, 36 rounds by turns", "1 thread, 20 rounds by turns"),
        other="2 threads, 36 rounds by turns",
    ),
    Mask(
        kind="EPOCH",
        pattern=r"(best epoch )[0-9]+",
        alike=("best epoch 5 of 6", "best epoch 6 of 6"),
        other="best epoch 5 of 7",
    ),
    Mask(
        kind="INTERVAL",
        pattern=rf"\[{_NUMBER}, {_NUMBER}\]",
        alike=("nrmse [1, 12]", "nrmse [2, 13]"),
        other="nrmse (1, 12)",
    ),
    Mask(
        kind="DECIMAL",
        pattern=rf"(?<![\w.]){_DECIMAL}(?![\w.]| M\b)",  # millions of multiply-adds are counted
        alike=("constant 0.9", "constant 1e-05"),
        other="constant 1",
    ),
    Mask(
        kind="COLUMN",  # the width of a column follows the longest number in it
        pattern=r"(?<=\S) {2,}(?=\S)",
        alike=("p50    p90", "p50      p90"),
        other="p50 p99",
    ),
)


def mask(text: str, masks: tuple[Mask, ...] = MASKS) -> str:
    """Return what a command printed with every kind of text that depends on the machine replaced by its name."""
    for each in masks:
        groups = re.compile(each.pattern).groups
        stand_in = f"\\1<{each.kind}>" if groups else f"<{each.kind}>"
        text = re.sub(each.pattern, stand_in, text, flags=re.MULTILINE)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line != "<REMARK>")

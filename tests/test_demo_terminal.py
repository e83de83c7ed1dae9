"""The demo's table and notes at every width of a terminal."""

from __future__ import annotations

import pytest

from rtserve.demo.notes import rounded
from rtserve.demo.outcome import Row
from rtserve.demo.terminal import note_lines, table_lines

ROWS = [
    Row(what="C1 constant (mean of y)", nrmse=1.0),
    Row(what="C1 ensemble of 5 x 5 views", nrmse=0.8872, low=0.861, high=0.913, latency_us=1013.4, ratio=0.02841),
    Row(what="the same branches: torch eager, one forward per branch", latency_us=35_671.0, ratio=1.0, rough=True),
]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_table_keeps_to_its_width_and_loses_nothing(width):
    lines = table_lines([row.cells() for row in ROWS], width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for value in ("0.887", "1,013", "0.028", "~36,000", "1.000"):
        assert value in words
    assert "[0.861, 0.913]" in " ".join(words)
    assert [word for word in words if word in ("eager,", "forward")] == ["eager,", "forward"]
    if width >= 80:  # one column of numbers beneath the other
        at = {line.index(value) + len(value) for value in ("1,013", "~36,000") for line in lines if value in line}
        assert len(at) == 1


def test_a_narrow_terminal_gets_values_below_their_row():
    lines = table_lines([row.cells() for row in ROWS], 40)
    assert lines[:2] == ["C1 constant (mean of y)", "  NRMSE 1.000"]


def test_notes_wrap_at_words_and_long_words_stay_whole():
    path = "/a/very/long/folder/" + "x" * 60
    lines = note_lines(f"note: a sentence that goes on for more than forty columns, then {path}", 40)
    assert all(len(line) <= 40 or path in line for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    assert path in "".join(lines)


@pytest.mark.parametrize(("value", "text"), [(35.24, "35"), (1013.4, "1,000"), (0.02841, "0.028"), (7.06, "7.1")])
def test_a_rough_number_has_two_digits(value, text):
    assert rounded(value) == text

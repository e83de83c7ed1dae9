"""Tables and notes at every width of a terminal: nothing that stands in them is lost."""

from __future__ import annotations

import pytest

from rtserve.demo.notes import rounded
from rtserve.demo.outcome import Row
from rtserve.tables import aligned, fitting, note_lines, record_lines, wrapping_table

WIDTHS = (40, 60, 80, 120, 200)
ROWS = [
    Row(what="C1 constant (mean of y)", nrmse=1.0),
    Row(what="C1 ensemble of 5 x 5 views", nrmse=0.8872, low=0.861, high=0.913, latency_us=1013.4, ratio=0.02841),
    Row(what="the same branches: torch eager, one forward per branch", latency_us=35_671.0, ratio=1.0, rough=True),
]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_keeps_to_its_width_and_loses_nothing(width):
    lines = wrapping_table([row.cells() for row in ROWS], width)
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
    lines = wrapping_table([row.cells() for row in ROWS], 40)
    assert lines[:2] == ["C1 constant (mean of y)", "  NRMSE: 1.000"]


NAMES = ("layer", "computed", "kept", "why")
CELLS = [
    ("Conv n1", "8 of 200", "192", ""),
    ("Flatten behind_all_of_it", "all", "", "time ends here: a sentence that says why it does, and that goes on"),
]


def test_columns_stand_in_columns_where_there_is_room_and_in_a_pipe():
    assert aligned(NAMES, CELLS, None, right=(1, 2), indent=2) == [
        "  layer                     computed  kept  why",
        "  Conv n1                   8 of 200   192",
        f"  Flatten behind_all_of_it       all        {CELLS[1][3]}",
    ]
    assert aligned(NAMES, CELLS, 200, right=(1, 2)) == aligned(NAMES, CELLS, None, right=(1, 2))
    assert aligned(NAMES, CELLS, None, headed=False)[0].split() == ["Conv", "n1", "8", "of", "200", "192"]


def test_columns_that_do_not_fit_are_named_below_their_row():
    assert aligned(NAMES, CELLS, 40, right=(1, 2))[:4] == [
        "layer Conv n1", "  computed: 8 of 200", "  kept: 192", "layer Flatten behind_all_of_it"
    ]  # fmt: skip


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_cell_is_lost_at_any_width(width, wraps):
    lines = aligned(NAMES, CELLS, width, right=(1, 2), wraps=wraps, indent=2)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert all(cell in text for row in CELLS for cell in row)


def test_a_last_column_wraps_below_itself():
    lines = aligned(NAMES, CELLS, 80, right=(1, 2), wraps=True)
    at = lines[0].index("why")
    assert len(lines) > 3
    assert all(line[:at].isspace() and line[at] != " " for line in lines[3:])
    assert aligned(NAMES, CELLS, 60, right=(1, 2), wraps=True)[0] == "layer Conv n1"  # the others leave it no room


def test_one_line_too_long_makes_all_rows_records():
    rows = [("a", [("x", "1"), ("none", "")]), ("b" * 30, [("x", "2"), ("", "unnamed")])]
    assert fitting(["a 1", "b" * 30 + " 2"], rows, 31) == ["a", "  x: 1", "b" * 30, "  x: 2", "  unnamed"]
    assert fitting(["a 1", "b" * 30 + " 2"], rows, 32) == ["a 1", "b" * 30 + " 2"]


def test_a_record_wraps_with_an_indent_of_its_own():
    lines = record_lines("a row", [("value", "one two three four")], 16, indent=2)
    assert lines == ["  a row", "    value: one", "      two three", "      four"]


def test_notes_wrap_at_words_and_long_words_stay_whole():
    path = "/a/very/long/folder/" + "x" * 60
    lines = note_lines(f"note: a sentence that goes on for more than forty columns, then {path}", 40)
    assert all(len(line) <= 40 or path in line for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    assert path in "".join(lines)


@pytest.mark.parametrize(("value", "text"), [(35.24, "35"), (1013.4, "1,000"), (0.02841, "0.028"), (7.06, "7.1")])
def test_a_rough_number_has_two_digits(value, text):
    assert rounded(value) == text

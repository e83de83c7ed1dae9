"""Rows and cells of tables: lines end where lines end, and quotes are a spreadsheet's or just letters."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.signals.tables import read_table

CELLS = st.text(st.sampled_from('ab ,;\t"\n\x0b\x85\u2028é'), max_size=6).map(str.strip)


def cells(path, text):
    path.write_bytes(text.encode())
    table = read_table(path)
    return [list(row.values()) for row in table.rows], table.lines


@pytest.mark.parametrize("separator", [",", ";"])
@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=6))
def test_what_a_spreadsheet_writes_is_read(tmp_path_factory, separator, rows):
    rows = [["1", *row] for row in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator)
    writer.writerows([["onset", "duration", "trial_type", "note"], *rows])
    got, _ = cells(tmp_path_factory.mktemp("t") / "x.tsv", out.getvalue())
    assert got == [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quoted_cell_may_hold_the_separator(tmp_path, separator, end):
    head, rows = (
        ["onset", "duration", "trial_type", "note"],
        [["3.0", "0", "stim, left; now", ""], ["4", "0", "b", "x"]],
    )
    lines = [separator.join(head), f'3.0{separator}0{separator}"stim, left; now" {separator}', separator.join(rows[1])]
    assert cells(tmp_path / "x.tsv", end.join(lines)) == (rows, (2, 3))


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_ends_at_a_lines_end_alone(tmp_path, letter, end):
    text = end.join(["onset\ttrial_type\tnote", f"1\ta\tx{letter}y", "2\tb\tz", ""])
    assert cells(tmp_path / "x.tsv", text) == ([["1", "a", f"x{letter}y"], ["2", "b", "z"]], (2, 3))


def test_a_cell_of_several_lines_is_one_and_later_rows_keep_their_line(tmp_path):
    text = 'onset\ttrial_type\tnote\n1\t"stim\nleft"\tx\n2\tb\t"y\nz"\n3\tc\tw\n'
    assert cells(tmp_path / "x.tsv", text) == (
        [["1", "stim\nleft", "x"], ["2", "b", "y\nz"], ["3", "c", "w"]],
        (2, 4, 6),
    )


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ('1\t5" screen\tx\n2\t6" screen\ty\n', ['5" screen', '6" screen']),
        ('1\t"\tx\n2\t"\ty\n', ['"', '"']),
        ('1\t"left\tx\n2\tright"\ty\n', ['"left', 'right"']),
        ('1\t"a"b\tx\n2\tb\ty\n', ['"a"b', "b"]),
        ('1\t"""a"" b"\tx\n2\tb\ty\n', ['"a" b', "b"]),
    ],
)
def test_quotes_between_tabs_may_be_letters(tmp_path, rows, wanted):
    got, _ = cells(tmp_path / "x.tsv", "onset\ttrial_type\tnote\n" + rows)
    assert [row[1] for row in got] == wanted
    assert [row[2] for row in got] == ["x", "y"]


@pytest.mark.parametrize("row", ['1,"left,x', '1,"a"b,x', '1,"a,b\n2,c,d'])
def test_quotes_that_do_not_close_are_refused_by_line(tmp_path, row):
    with pytest.raises(InputError, match=r"x\.tsv, line 3: a quote does not close"):
        cells(tmp_path / "x.tsv", f"onset,trial_type,note\n0,a,b\n{row}\n")


@pytest.mark.parametrize("text", ["", "\n\n", "\r\n \r\n", "\x0b\n"])
def test_a_table_of_nothing_has_no_rows(tmp_path, text):
    assert cells(tmp_path / "x.tsv", text) == ([], ())

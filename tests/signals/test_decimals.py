"""What the comma of a number means is one decision per column, and none is taken where the column does not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.signals.decimals import commas_of
from rtserve.signals.marks import comma_notes, tabled
from rtserve.signals.tables import read_table

NUMBERS = st.lists(st.decimals(-5000, 50000, places=2, allow_nan=False), min_size=1, max_size=12)


def read(fields, **options):
    commas = commas_of(fields, "column x", **({"semicolons": False} | options))
    return [float(commas.plain(field)) for field in fields]


@given(NUMBERS)
def test_both_ways_of_writing_are_read(numbers):
    wanted = [float(n) for n in numbers]
    assert read([f"{n:.2f}".replace(".", ",") for n in numbers]) == wanted
    assert read([f"{n:,.2f}" for n in numbers]) == wanted
    assert read([f"{n:,.2f}".translate(str.maketrans(",.", ".,")) for n in numbers], semicolons=True) == wanted


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        (["1,234", "0,5"], [1.234, 0.5]),
        (["1,234", "12.5"], [1234, 12.5]),
        (["1,234", "1,234,567"], [1234, 1234567]),
        (["1.234,5", "7,25"], [1234.5, 7.25]),
        (["3", "0,125"], [3, 0.125]),
        (["0,95", "0.97"], [0.95, 0.97]),
    ],
)
def test_one_number_tells_for_its_column(fields, values):
    assert read(fields) == values


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (["900", "1,020"], "'1,020': whether its comma"),
        (["3,000", "8,013"], "'3,000': whether its comma"),
        (["0,5", "1.500"], "'0,5', whose comma is a decimal one, and '1.500'"),
        (["0,5", "1,500", "2.5"], "'0,5', whose comma is a decimal one, and '2.5'"),
        (["0,5", "1,234,567"], "'0,5', whose comma is a decimal one, and '1,234,567'"),
    ],
)
def test_what_the_column_does_not_say_is_refused(fields, words):
    with pytest.raises(InputError, match=words):
        read(fields)


def test_semicolons_are_where_the_comma_is_decimal():
    assert read(["3,000", "8,013"], semicolons=True) == [3.0, 8.013]


def test_an_events_table_says_how_its_commas_were_read(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\ttrial_type\n998.5\tn/a\ta\n1,003.25\t0,5\tb\n", encoding="utf-8")
    table = read_table(path)
    (marks,) = tabled(table)
    assert marks.onset.tolist() == [998.5, 1003.25]
    assert marks.duration.tolist() == [0, 0.5]
    said = " ".join(comma_notes(table))
    assert "commas in onset are read as those of thousands" in said
    assert "commas in duration are read as decimal ones" in said
    path.write_text("onset\tduration\ttrial_type\n900\t0\ta\n1,003\t0\tb\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"column onset of .*events.tsv has '1,003'"):
        tabled(read_table(path))

"""participants.tsv: each data set's own, in whatever encoding, and a clear word about what cannot be used."""

from __future__ import annotations

import pytest

from rtserve.errors import InputError
from rtserve.signals.participants import read_participants
from rtserve.signals.tables import read_table


def table(folder, text, encoding="utf-8"):
    folder.mkdir(exist_ok=True)
    (folder / "participants.tsv").write_bytes(text.encode(encoding))
    return folder


def people(folder, *ids):
    return [(f"{folder.name}/{one}", folder, one) for one in ids]


def test_values_are_those_of_the_subjects_own_data_set(tmp_path):
    a = table(tmp_path / "a", "participant_id\tage\nsub-01\t10\nsub-02\tn/a\n")
    b = table(tmp_path / "b", "participant_id\tage\n01\t20.5\n\n")
    found = read_participants(people(a, "sub-01", "sub-02") + people(b, "sub-01"), "age")
    assert found.by_subject == {"a/sub-01": 10.0, "b/sub-01": 20.5}
    assert not found.categorical


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_encoding_people_save_in(tmp_path, encoding):
    folder = table(tmp_path / "a", "participant_id\thand\tnote\nsub-01\tlinks\tMüller\nsub-02\trechts\té\n", encoding)
    found = read_participants(people(folder, "sub-01", "sub-02"), "hand")
    assert found.by_subject == {"a/sub-01": "links", "a/sub-02": "rechts"}
    assert found.categorical
    assert read_table(folder / "participants.tsv", what="table").rows[0]["note"] == "Müller"


def test_commas_are_read_as_those_of_events_are(tmp_path):
    folder = table(tmp_path / "a", "participant_id\tage\nsub-01\t7,5\nsub-02\t8\n")
    found = read_participants(people(folder, "sub-01", "sub-02"), "age")
    assert list(found.by_subject.values()) == [7.5, 8.0]
    assert found.notes == ("a: commas in age are read as decimal ones",)
    spread = table(tmp_path / "b", "participant_id;age\nsub-01;7,500\nsub-02;8\n")
    assert list(read_participants(people(spread, "sub-01", "sub-02"), "age").by_subject.values()) == [7.5, 8.0]


def test_numbers_can_be_categories(tmp_path):
    folder = table(tmp_path / "a", "participant_id\tgroup\nsub-01\t1\nsub-02\t2\n")
    assert read_participants(people(folder, "sub-02"), "group", categorical=True).by_subject == {"a/sub-02": "2"}
    assert read_participants(people(folder, "sub-02"), "group").by_subject == {"a/sub-02": 2.0}


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("participant_id\tage\nsub-01\t7,5\nsub-02\t8.125\n", "column age of .* '7,5', whose comma is a", "one way"),
        ("participant_id\tage\nsub-01\t7,500\nsub-02\t8\n", "column age of .* '7,500': whether its", "a point"),
        ("participant_id\tage\nsub-01\t7,5\nsub-02\told\n", r"line 3: age 'old' is no number", "n/a"),
        ("participant_id\tage\nsub-01\t>90\nsub-02\t8\n", r"line 2: age '>90' is no number", "n/a"),
        ("participant_id\tage\nsub-01\tinf\nsub-02\t8\n", "'inf' is no number", "n/a"),
        ("participant_id\tage\nsub-01\t7\nsub-01\t8\n", r"line 3: sub-01 has age '8', and '7' above", "wrong row"),
        ("participant_id\tage\n1\t7\n2\t8\n", "it has '1', the recordings '01'", "zeros"),
        ("participant_id\tsex\nsub-01\tM\n", "has no column age", "participant_id, sex"),
        ("id\tage\nsub-01\t7\n", "has no column participant_id", "id, age"),
        ("participant_id\tage\tage\nsub-01\t7\t8\n", "two columns 'age'", "rename"),
        ("participant_id\tage\nsub-01\t7\t8\n", "line 2: 3 cells for 2 columns", "tab"),
        ("", "has no column", "nothing"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, says, hint):
    folder = table(tmp_path / "a", text)
    with pytest.raises(InputError, match=says) as caught:
        read_participants(people(folder, "sub-01", "sub-02"), "age")
    assert "participants.tsv" in caught.value.message
    assert hint in caught.value.hint


def test_a_folder_without_the_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no participants\.tsv"):
        read_participants(people(tmp_path, "sub-01"), "age")

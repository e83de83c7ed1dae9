"""Ranks on leaderboard files of every shape, and what is no leaderboard."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.report.leaderboard import Leaderboard, load_leaderboard

CASES = {
    "a.csv": "team,overall\nA,0.95\nB,0.97\nC,n/a\n",
    "b.csv": "Name;Score\nA;0.95\nB;0.97\n",
    "c.tsv": "user\tscore\nA\t0.95\nB\t0.97\n",
    "d.json": json.dumps([{"team": "A", "score": 0.95}, {"team": "B", "score": "0.97"}]),
    "e.json": json.dumps([0.97, 0.95]),
    "f.json": json.dumps({"A": 0.95, "B": 0.97}),
    "g.json": json.dumps({"leaderboard": [{"participant": "A", "nrmse": 0.95}, {"participant": "B", "nrmse": 0.97}]}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_shape_is_read(name, tmp_path):
    (tmp_path / name).write_text(CASES[name])
    board = load_leaderboard(tmp_path / name)
    assert [score for _, score in board.entries] == [0.95, 0.97]
    standing = board.standing(0.96)
    assert (standing.rank, standing.of, standing.best) == (2, 3, 0.95)
    assert board.skipped == (name == "a.csv")


def test_latin_1_and_a_printed_minus_are_read_and_a_head_alone_is_called_so(tmp_path):
    (tmp_path / "a.csv").write_bytes("team,score\nÄ,\u22120.95\n".replace("\u2212", "-").encode("latin-1"))
    assert load_leaderboard(tmp_path / "a.csv").entries == (("Ä", -0.95),)
    (tmp_path / "b.csv").write_text("team,score\nA,\u22120.95\nB,-0.97\n", encoding="utf-8")
    assert [score for _, score in load_leaderboard(tmp_path / "b.csv").entries] == [-0.97, -0.95]
    (tmp_path / "c.csv").write_text("team,score\n")
    with pytest.raises(InputError, match="a head and no row"):
        load_leaderboard(tmp_path / "c.csv")
    (tmp_path / "d.csv").write_bytes(b"team,score\n\xe9\0\0,1\n")
    with pytest.raises(InputError, match="is no leaderboard"):
        load_leaderboard(tmp_path / "d.csv")


def test_columns_and_direction_can_be_chosen(tmp_path):
    (tmp_path / "a.csv").write_text("team,overall,c1\nA,0.95,0.9\nB,0.97,0.8\n")
    assert load_leaderboard(tmp_path / "a.csv", column="c1").entries[0] == ("B", 0.8)
    assert load_leaderboard(tmp_path / "a.csv", higher_is_better=True).standing(0.96).rank == 2
    assert load_leaderboard(tmp_path / "a.csv", higher_is_better=True).standing(0.99).rank == 1


def test_ties_share_a_rank_and_are_counted():
    standing = Leaderboard(entries=(("A", 0.9), ("B", 0.95), ("C", 0.95))).standing(0.95)
    assert (standing.rank, standing.ties) == (2, 2)
    assert "level with 2" in standing.sentence()
    assert standing.behind == ""


@given(scores=st.lists(st.floats(0.5, 1.5), min_size=1, max_size=30), mine=st.floats(0.4, 1.6))
def test_rank_is_one_more_than_those_better(scores, mine):
    board = Leaderboard(entries=tuple((f"t{k}", s) for k, s in enumerate(sorted(scores))))
    standing = board.standing(mine)
    assert standing.rank == 1 + sum(s < mine for s in scores)
    assert 1 <= standing.rank <= standing.of == len(scores) + 1


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", "team,place\nA,1\n"), ("b.csv", "team,score\nA,x\n"), ("c.json", "{"), ("d.json", "3"), ("e.csv", "")],
)
def test_no_leaderboard_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError):
        load_leaderboard(tmp_path / name)


def test_a_score_that_is_no_number_has_no_rank():
    with pytest.raises(InputError):
        Leaderboard(entries=(("A", 0.9),)).standing(float("nan"))


BOARD = [0.95, 0.97, 1.01, 1.02]
WRITTEN = {
    "comma.csv": "Team;Score\nA;0,95\nB;0,97\nC;1,01\nD;1,02\n",
    "three.csv": "Team;Score\nA;0,950\nB;0,970\nC;1,010\nD;1,020\n",
    "quoted.csv": 'Team,Score\nA,"0,95"\nB,"0,97"\nC,"1,01"\nD,"1,02"\n',
    "partly.csv": "Team;Score\nA;0,95\nB;0.97\nC;1,01\nD;1.02\n",
    "codabench.csv": "Participant,Overall\nA,0.95 (1)\nB,0.97 (2)\nC,1.01 (3)\nD,1.02 (4)\n",
    "percent.csv": "team,score\nA,95%\nB,97 %\nC,101%\nD,102%\n",
    "preamble.csv": "# exported, 2026\nLeaderboard of the final phase\nteam,score\nA,0.95\nB,0.97\nC,1.01\nD,1.02\n",
    "bom.csv": "\ufeffteam,score\nA,0.95\nB,0.97\n\nC,1.01\nD,1.02\n",
    "crlf.tsv": "team\tscore\r\nA\t0.95\r\nB\t0.97\r\nC\t1.01\r\nD\t1.02\r\n",
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_numbers_as_people_write_them(name, encoding, tmp_path):
    (tmp_path / name).write_text(WRITTEN[name], encoding=encoding)
    board = load_leaderboard(tmp_path / name)
    assert [score for _, score in board.entries] == pytest.approx(BOARD)
    assert board.standing(0.98).rank == 3
    assert board.skipped == 0


def test_how_commas_and_percent_were_read_is_said(tmp_path):
    for name, word in (("comma.csv", "decimal"), ("percent.csv", "percent")):
        (tmp_path / name).write_text(WRITTEN[name])
        assert word in load_leaderboard(tmp_path / name).notes[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("team,score\nA,0.95\nB,good\n", "line 3 .*'good'"),
        ("# talk\nteam,score\nA,0.95\n\nB,1.2.3.x\n", "line 5"),
        ("team\tscore\nA\t1,234\nB\t2,345\n", "decimal one or one of thousands"),
        ("team,score\nA,95%\nB,0.97\n", "mixes percent"),
        ("team,score\nA,0,95\nB,0,97\n", "line 2 has 3 cells under 2 columns"),
        ("team,score\nA,1e999\n", "line 2"),
    ],
)
def test_what_is_no_number_is_refused_by_its_line(text, says, tmp_path):
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        load_leaderboard(tmp_path / "b.csv")


def test_ties_read_from_a_file_share_a_rank(tmp_path):
    (tmp_path / "tie.csv").write_text("team,score\nA,0.95\nB,0.98\nC,0.98\nD,1.02\n")
    standing = load_leaderboard(tmp_path / "tie.csv").standing(0.98)
    assert (standing.rank, standing.ties, standing.behind) == (2, 2, "D 1.02")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "team,score,score\nA,0.95,0.5\n"),
        ("b.csv", "team,team,score\nA,B,0.5\n"),
        ("c.json", '{"A": 0.95, "B": 0.9, "A": 0.97}'),
        ("d.json", '[{"team": "A", "score": 0.95, "score": 0.5}]'),
    ],
)
def test_what_stands_twice_hides_nothing(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="stands in it twice"):
        load_leaderboard(tmp_path / name)


def test_a_column_is_called_exactly_or_else_in_any_case(tmp_path):
    (tmp_path / "a.csv").write_text("Team,score,Score,notes,notes\nA,0.95,0.5,,\n")
    assert load_leaderboard(tmp_path / "a.csv", column="score").entries == (("A", 0.95),)
    assert load_leaderboard(tmp_path / "a.csv", column="Score").entries == (("A", 0.5),)
    assert load_leaderboard(tmp_path / "a.csv").entries == (("A", 0.95),)


@pytest.mark.parametrize("mark", ["\u2028", "\x0c", "\x1c", "\x85"])
def test_only_line_ends_end_lines(mark, tmp_path):
    """A form feed in a name is no new line: the score is not the second half's."""
    (tmp_path / "a.csv").write_bytes(f"team,score\r\nA{mark}B,0.95\r\nC,0.97\r\n".encode())
    board = load_leaderboard(tmp_path / "a.csv")
    assert (board.entries[0][0], board.skipped) == (f"A{mark}B", 0)


def test_an_entry_that_looks_like_a_comment_is_not_dropped(tmp_path):
    (tmp_path / "a.csv").write_text("team,score\n#1 team,0.95\nC,0.97\n")
    with pytest.raises(InputError, match=r"line 2 begins with # and has '0.95'"):
        load_leaderboard(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text('team,score\n"#1 team",0.95\n# exported, in May\n# no more\nC,0.97\n')
    assert load_leaderboard(tmp_path / "a.csv").entries == (("#1 team", 0.95), ("C", 0.97))

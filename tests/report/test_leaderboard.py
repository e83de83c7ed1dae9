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

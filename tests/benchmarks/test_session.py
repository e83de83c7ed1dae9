"""The replayed session: verdicts of one table are one family, with the raw p and the corrected one beside each other."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from rtserve.signals.splits import Split
from rtserve.signals.windows import WindowSet
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import seed_session
from session_attempts import CONSTANT, Bench, attempts, comparisons

PEOPLE, EACH = 16, 12


def played(r: float, seed: int) -> Bench:
    """Return a bench with six attempts that explain a little, and nothing trained."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(PEOPLE), EACH)
    y = rng.normal(1.6, 0.4, len(subject)).astype("f4")
    windows = WindowSet(
        X=np.zeros((len(y), 1, 1), "f4"), y=y, subject=subject.astype("U"), unit="V", ch_names=("Cz",), sfreq=100.0
    )
    bench = Bench(
        r=r, windows=windows, split=Split(marks=np.full(len(y), "test"), by="subject"), folder=Path(), epochs=1,
        seeds=(1,), tell=print,
    )  # fmt: skip
    single = ": best single of it (seed 1)"
    for version in (
        "V8", "aggressive", "ensemble without mixup", f"ensemble without mixup{single}", "ensemble with mixup",
        f"ensemble with mixup{single}", "V8 + 5 views",
    ):  # fmt: skip
        p = 1.6 + 0.3 * (y - 1.6) + 0.2 * rng.standard_normal(len(y))
        bench.add(version, p.astype("f4"), parameters=1, members=1, loss="mse", note="")
    return bench


@pytest.fixture(scope="module")
def benches() -> list[Bench]:
    return [played(0.0, 0), played(0.46, 1)]


def test_attempts_are_one_family_at_every_planted_r(benches: list[Bench]) -> None:
    rows = attempts(benches)
    assert {row["family"] for row in rows} == {"14 attempts of this table"}
    assert all(row["p_corrected"] >= row["p"] for row in rows)
    least = min(rows, key=lambda row: row["p"])
    assert least["p_corrected"] == pytest.approx(min(1.0, 14 * least["p"]))
    lost = [row for row in rows if row["p"] <= 0.05 < row["p_corrected"]]
    assert lost, "no attempt is told apart alone and not in the table: the case shows nothing"
    assert all(row["verdict"] == "not told apart from the constant" for row in lost)
    shown = seed_session.attempt(lost[0])
    assert shown["p, corrected"] == f"{lost[0]['p']:.3g}, {lost[0]['p_corrected']:.3g}"


def test_the_questions_are_one_family_with_their_power(benches: list[Bench]) -> None:
    found = comparisons(benches)
    assert len(found) == 12
    assert {row["family"] for row in found if row["family"]} == {"12 verdicts on the session's questions"}
    assert all(row["detectable"] > 0 and row["p_corrected"] >= row["p"] for row in found)
    assert {row["first_name"] for row in found} >= {CONSTANT, "V8"}
    assert {seed_session.claim(row)["decided"] for row in found} <= {"yes", "no"}

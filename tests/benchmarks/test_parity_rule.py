"""The record of parity's rule: what counts as holding, and what never does."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rtserve.errors import ExportError
from rtserve.graphs.behaviour import require_steady
from rtserve.graphs.parity import ParityReport, compare_outputs
from tests.conftest import ROOT
from tests.graphs.odd_networks import SPEC, Plain

sys.path.insert(0, str(ROOT / "benchmarks"))
import parity_rule
from noisy_networks import Noisy


def row(*, passed: bool = True, verdict: str = "equal", refused: bool | None = True) -> dict[str, Any]:
    keys = ("max_error", "max_rounding", "max_ratio", "max_ratio_above_tolerance")
    seed = {"passed": passed, "verdict": verdict} | dict.fromkeys(keys, 1e-6)
    return {"model": "EEGNet", "seeds": [seed], "noisy": [{"noise": 1e-3, "refused": refused}]}


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (row(), "holds"),
        (row(verdict="ill-conditioned"), "holds"),
        (row(passed=False, verdict="NOT EQUAL"), "REFUSED"),
        (row(refused=False), "NOISE PASSED"),
        (row(passed=False, verdict="no export"), "no export"),
        (row(refused=None), "no export"),
        (row() | {"excluded": "too large"}, "excluded"),
    ],
)
def test_a_row_is_told_in_a_word(made: dict[str, Any], word: str) -> None:
    assert parity_rule.outcome(made) == word


def test_the_table_counts_both_ends_and_names_what_is_missing() -> None:
    rows = [row(), row(passed=False, verdict="NOT EQUAL"), row(refused=False), row() | {"excluded": "too large"}]
    text = parity_rule.table(rows, ["BIOT"], {"cpu": "a CPU"})
    assert "3 networks, 3 exports: 1 deterministic ones refused by parity, 1 noisy ones passed" in text
    assert "Not reached: BIOT." in text
    assert "EEGNet (too large)" in text


def test_ratios_are_those_of_the_report() -> None:
    one = np.ones((1, 1))
    cases = tuple(compare_outputs("n", one + e, one, rounding=r) for e, r in ((2e-6, 1e-6), (2e-5, 8e-6)))
    found = parity_rule.measured(ParityReport(cases=cases))
    assert found["max_ratio_above_tolerance"] == pytest.approx(2.5)
    assert found["max_ratio"] == pytest.approx(2.5)


def test_noise_is_as_large_as_it_says_and_is_found_out() -> None:
    torch.manual_seed(0)

    class Ones(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x), 1)

    answers = Noisy(Ones(), 1e-3)(torch.zeros(4000, 1))
    assert float(answers.std()) == pytest.approx(1e-3, rel=0.1)
    with pytest.raises(ExportError, match="answers the same windows differently"):
        require_steady(Noisy(Plain(), 1e-3).eval(), SPEC)

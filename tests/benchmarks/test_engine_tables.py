"""The engines' tables measured again: every constant has a row, and a row says what its times say."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import engine_tables
from engine_tables_micro import Measure, crossing

MEASURES = {name: one for name, one in engine_tables.MEASURES.items() if isinstance(one, Measure)}


def test_every_constant_of_every_table_has_a_row() -> None:
    said = engine_tables.tables()
    engine_tables.require_rows(said)
    assert {"onnxruntime.node_us", "torch.SEAMS_US", "openvino.PLANE_OUTPUTS", "cuda.PACKED"} <= said.keys()


def test_a_constant_that_nothing_measures_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"onnxruntime\.turned_twice_us: write how it is measured"):
        engine_tables.require_rows(engine_tables.tables() | {"onnxruntime.turned_twice_us": 1.0})


def test_a_row_that_no_constant_is_for_is_refused() -> None:
    said = engine_tables.tables()
    del said["torch.NODE_US"]
    with pytest.raises(SystemExit, match=r"torch\.NODE_US"):
        engine_tables.require_rows(said)


@pytest.mark.parametrize(
    "engine", ["onnxruntime", "torch", pytest.param("openvino", marks=pytest.mark.needs("openvino"))]
)
def test_every_graph_runs(engine: str) -> None:
    for name, measure in MEASURES.items():
        if name.startswith(engine):
            for form in measure.forms.values():
                assert np.isfinite(form.call()()).all(), name


@pytest.mark.parametrize("name", MEASURES)
def test_a_machine_of_half_the_speed_has_twice_the_times_and_the_same_sizes(name: str) -> None:
    measure, rng = MEASURES[name], np.random.default_rng(0)
    us = {key: float(rng.uniform(5, 50)) for key in measure.forms}
    factor = measure.constant({key: 2 * value for key, value in us.items()}) / measure.constant(us)
    wanted = 0.5 if name.lower().endswith("_per_us") else 2.0 if name.lower().endswith("_us") else 1.0
    assert factor == pytest.approx(wanted)


def times(name: str, us: Any) -> dict[Any, float]:
    return {key: us(*key) for key in MEASURES[name].forms}


@pytest.mark.parametrize(
    ("name", "us", "wanted"),
    [
        ("onnxruntime.node_us", lambda n: 3 + 1.3 * n, 1.3),
        ("onnxruntime.macs_per_us", lambda taps: 9 + 64 * 64 * 200 * taps / 5e4, 5e4),
        ("onnxruntime.depthwise_macs_per_us", lambda taps: 9 + 64 * 200 * taps / 2e4, 2e4),
        ("onnxruntime.narrow_macs_per_us", lambda taps: 9 + 64 * 16 * 200 * taps / 3e4, 3e4),
        ("onnxruntime.turned_macs_per_us", lambda c, taps: 9 + 800 * taps * (c / 3e4 + 4e-4), 3e4),
        ("onnxruntime.added_us", lambda c, taps: 9 + 800 * taps * (c / 3e4 + 4e-4), 4e-4),
        ("onnxruntime.unfolded_us", lambda f, taps: 9 + 200 * 129 * taps * (2e-4 + f / 5e4), 2e-4),
        ("onnxruntime.gathered_row_us", lambda rows, width: 9 + rows * (0.006 + 2e-4 * width), 0.006),
        ("onnxruntime.piece_samples", lambda pieces, size: 9 + 0.1 * pieces * (size + 8), 8.0),
        (
            "onnxruntime.window_us",
            lambda way, taps: 5 + 9 * (way == "split") + taps * (7 if way == "plane" else 6),
            9.0,
        ),
        ("onnxruntime.corrected_us", lambda way, n: 7 + n + (30 + 12 * n) * (way == "shared"), 30.0),
        ("onnxruntime.view_corrected_us", lambda way, n: 7 + n + (30 + 12 * n) * (way == "shared"), 12.0),
        ("torch.COPIED_US", lambda n, rows: 5 + n * (2 + rows * 64 * 1.8e-4), 1.8e-4),
    ],
)
def test_times_made_of_a_constant_give_it_back(name: str, us: Any, wanted: float) -> None:
    assert MEASURES[name].constant(times(name, us)) == pytest.approx(wanted)


def test_a_threshold_lies_where_the_other_form_stays_faster() -> None:
    ladder = (100, 200, 400, 800)
    us = {("plain", n): float(n) for n in ladder} | {("other", n): 300.0 for n in ladder}
    assert 200 < crossing(us, ladder) < 400
    assert crossing(us | {("other", 800): 900.0}, ladder) == 800
    assert crossing(us | {("other", n): 1.0 for n in ladder}, ladder) == 100


def record(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"rows": rows, "environment": {"cpu": "a CPU", "versions": {}}, "processes": 3, "code": "abc"}


def row(name: str, *values: float) -> dict[str, Any]:
    return engine_tables.row(name, engine_tables.tables()[name], [{"value": value} for value in values])


def test_what_is_off_beside_the_others_is_named() -> None:
    rows = [
        row(f"onnxruntime.{name}", value)
        for name, value in (("node_us", 2.6), ("macs_per_us", 25_000), ("added_us", 4e-4))
    ]
    assert engine_tables.uneven(rows) == ["onnxruntime.added_us"]


def test_what_is_off_is_named_with_what_it_would_be_and_an_even_machine_shows() -> None:
    node, macs = row("onnxruntime.node_us", 2.5, 2.6, 2.7), row("onnxruntime.macs_per_us", 25_000, 25_000, 25_000)
    sure, near = row("onnxruntime.window_us", 9.0, 17.0, 20.0), row("onnxruntime.exp_from", 900.0, 910.0, 920.0)
    text = engine_tables.page(record([node, macs, sure, near, row("onnxruntime.BLOCK")]))
    assert "| onnxruntime.node_us | 1.3 | 2.6 [2.5, 2.7] | 2.00 | 1.00 |" in text
    assert "- onnxruntime.node_us: 1.3 -> 2.6" in text
    assert "- onnxruntime.macs_per_us: 50,000 -> 25,000" in text
    assert "within: onnxruntime.window_us." in text
    assert "onnxruntime.exp_from:" not in text
    assert "as by the sizes in the list: none." in text
    assert "not measured: a fact of the engine's layout" in text


@pytest.mark.parametrize("values", [(-0.1, 0.2, 0.3), (math.nan, 1.0, 1.0)])
def test_what_is_lost_in_noise_is_no_number(values: tuple[float, ...]) -> None:
    assert "lost" in row("onnxruntime.node_us", *values)["reason"]


def test_an_engine_that_is_not_there_is_a_reason() -> None:
    made = engine_tables.row("openvino.PLANE_OUTPUTS", 40, [{"reason": "OpenVINO is not installed"}])
    assert made["reason"] == "OpenVINO is not installed"


def test_beyond_the_sizes_that_were_tried_is_said() -> None:
    assert engine_tables.here(row("onnxruntime.exp_from", 200.0, 200.0)) == "at most 200"


def test_rows_are_kept_for_the_same_code_alone(tmp_path: Any) -> None:
    from rtserve.measure.results import save_result

    known = {"code": "abc", "processes": 3}
    save_result(tmp_path / "r.json", "engine_tables", known | {"rows": [row("onnxruntime.node_us", 1.0)]})
    assert list(engine_tables.kept(tmp_path / "r.json", known)) == ["onnxruntime.node_us"]
    assert engine_tables.kept(tmp_path / "r.json", known | {"code": "other"}) == {}

"""Calibration: least squares at ridge 0, never fitted where it is judged, and part of the graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse
from rtserve.graphs.export import export
from rtserve.graphs.graph import Graph
from rtserve.measure.calibrate import calibrate, fit_affine
from rtserve.measure.predict import predict
from rtserve.signals.splits import make_split
from rtserve.signals.windows import WindowSet
from rtserve.training.networks import CompactRT


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    path = tmp_path_factory.mktemp("calibrate") / "w.pth"
    torch.manual_seed(0)
    torch.save(CompactRT(3, input_scale=1e5).state_dict(), path)
    return export(path, exporter="rtserve.training.networks:exporter", settings={"n_times": 40})


@pytest.fixture(scope="module")
def windows(graph):
    rng = np.random.default_rng(0)
    X = (1e-4 * rng.standard_normal((300, 3, 40))).astype("f4")
    plain = WindowSet(X=X, y=np.zeros(300, "f4"), subject=np.repeat([f"s{i}" for i in range(30)], 10))
    p = predict(graph, plain)[:, 0].astype("f8")
    y = 1.6 + 0.3 * (p - p.mean()) / p.std() + 0.1 * rng.standard_normal(300)
    marked = replace(plain, y=y.astype("f4"))
    return replace(marked, extra={"split": make_split(marked).marks})


def test_ridge_zero_is_least_squares_and_more_goes_to_the_mean():
    rng = np.random.default_rng(1)
    p = rng.standard_normal(50)
    y = 2 * p + 1 + 0.1 * rng.standard_normal(50)
    assert fit_affine(p, y) == pytest.approx(np.polyfit(p, y, 1))
    scales = [fit_affine(p, y, ridge=ridge)[0] for ridge in (0.0, 0.5, 5.0, 1e9)]
    assert scales == sorted(scales, reverse=True)
    assert fit_affine(p, y, ridge=1e9) == pytest.approx((0.0, y.mean()), abs=1e-6)


def test_a_calibrated_graph_carries_the_map_and_is_better(graph, windows, tmp_path):
    report = calibrate(graph, windows, output=tmp_path / "c.onnx")
    assert report.change.different
    assert report.change.second < 0.5 < report.change.first
    again = Graph.load(tmp_path / "c.onnx")
    c = report.calibration
    expected = c.scale * predict(graph, windows).astype("f8") + c.offset
    assert predict(again, windows) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert again.digest == report.graph.digest
    valid = windows.extra["split"] == "valid"
    p = predict(graph, windows)[valid, 0]
    assert (c.scale, c.offset) == pytest.approx(fit_affine(p, windows.y[valid], ridge=report.ridge))


def test_clip_comes_last(graph, windows):
    report = calibrate(graph, windows, clip=(1.5, 1.7), ridge=0.0)
    y = predict(report.graph, windows)
    assert y.min() >= 1.5
    assert y.max() == np.float32(1.7)


def test_it_is_not_fitted_where_it_is_judged(graph, windows, tmp_path):
    for split in ("test", "train"):
        with pytest.raises(InputError, match="would flatter"):
            calibrate(graph, windows, split=split)
    with pytest.raises(InputError, match="mark no splits"):
        calibrate(graph, replace(windows, extra={}), output=tmp_path / "c.onnx")
    assert not (tmp_path / "c.onnx").exists()
    marks = windows.extra["split"].copy()
    marks[::2] = "valid"
    marks[1::2] = "test"
    with pytest.raises(InputError, match="30 subjects are in both"):
        calibrate(graph, replace(windows, extra={"split": marks}))


def test_a_constant_graph_cannot_be_calibrated(graph, windows):
    flat = fuse([graph], views=("scale:0",), force=True, optimize=False)
    with pytest.raises(InputError, match="answers a constant"):
        calibrate(flat, windows)

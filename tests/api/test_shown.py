"""Results in a prompt and in a notebook: short, with what matters, and no name in them can become markup."""

from __future__ import annotations

import copy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import joblib
import numpy as np
import pytest

from rtserve.fusion.fuse import fuse, fuse_with_report
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import ParityReport
from rtserve.measure.bench import bench
from rtserve.measure.compare import compare
from rtserve.measure.evaluate import evaluate
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.streaming.build import stream
from rtserve.submission.validate import check
from tests.fusion.making import SPEC, network
from tests.submission.zips import write_zip

RNG = np.random.default_rng(0)


class Page(HTMLParser):
    """Reads tags and text, and insists that each tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def graphs():
    return [network(seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def fused(graphs):
    return fuse_with_report(graphs, views="identity,roll:+3,scale:1.02")


@pytest.fixture(scope="module")
def windows():
    X = 1e-5 * RNG.standard_normal((20, SPEC.n_chans, SPEC.n_times))
    return WindowSet(X=X, y=RNG.standard_normal(20), sfreq=100.0, ch_names=SPEC.ch_names, target="response_time")


@pytest.fixture(scope="module")
def shown(graphs, fused, windows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    data, paths = save_windows(folder / "w.npz", windows), [folder / "a.onnx", folder / "b.onnx"]
    for graph, path in zip(graphs, paths, strict=True):
        graph.save(path)
    return {
        "windows": windows,
        "report": check(write_zip(folder / "a&b.zip", {"submission.py": "class Submission: ..."}), run=False),
        "graph": graphs[0],
        "fused": fused[0],
        "parity": fused[2],
        "evaluation": evaluate(fused[0], windows, resamples=50, name="<b>fused & co</b>"),
        "comparison": compare(*paths, data=data),
        "refused": compare(*paths),
        "times": bench(graphs[0], graphs[1], rounds=2),
    }


SAYS = {
    "report": ["a&amp;b.zip: failed", "cure: ", "it was not run"],
    "windows": ["20 of 4 channels x 20 samples at 100 Hz in V", "F3, F4, Cz, Pz", "response_time", "not known"],
    "graph": [
        "exported from conv",
        "4 channels x 20 samples at 100 Hz in V",
        "F3, F4, Cz, Pz",
        "1 output (response_time)",
    ],
    "fused": ["2: conv ", "3: identity, roll:+3, scale:1.02", "mean", "equal to its members", "reference answers"],
    "parity": ["equal", "allowed"],
    "evaluation": ["nrmse", "constant", "20 windows", "&lt;b&gt;fused &amp; co&lt;/b&gt;"],
    "comparison": ["a.onnx and b.onnx", "nrmse", "->".replace(">", "&gt;")],
    "times": ["graph (2)", "us per window", "of it"],
    "refused": ["score both with one metric"],
}


@pytest.mark.parametrize("kind", SAYS)
def test_a_result_is_short_in_a_prompt_and_whole_in_a_notebook(shown, kind):
    one = shown[kind]
    line, page = repr(one), one._repr_html_()
    assert line.startswith(f"<{type(one).__name__} ")
    assert len(line) < 700
    assert "\n" not in line
    assert len(page) < 20_000
    for said in SAYS[kind]:
        assert said in page
    tags = {tag for tag, _ in Page(page).tags}
    drawn = {"svg", "rect", "path", "text"} if isinstance(one, Graph) else set()
    assert tags - drawn <= {"div", "strong", "table", "tr", "th", "td"}  # no script, no style sheet, nothing fetched
    styles = [attrs.get("style", "") for _, attrs in Page(page).tags]
    assert not any("#" in style or "url" in style for style in styles)  # the page's own colours, light or dark


def test_a_step_says_its_hop_and_not_its_model(graphs):
    step, _ = stream(graphs[0], hop=4)
    assert repr(step).startswith("<StepGraph of 4 new samples: 4 channels x 20 samples")
    assert len(repr(step)) < 200


def test_nothing_compared_and_a_bare_graph_are_shown_too():
    assert "nothing compared" in repr(ParityReport(cases=()))
    assert "none" in ParityReport(cases=())._repr_html_()
    bare = Graph.from_model(network().model.clone())
    for graph in (bare, replace(bare, provenance=replace(bare.provenance, details={}))):
        assert "not compared with anything here" in graph._repr_html_()


def test_the_line_of_a_graph_says_of_what_it_was_fused(fused):
    assert repr(fused[0]).startswith(
        "<Graph fused of 2 members x 3 views: 4 channels x 20 samples at 100 Hz in V -> 1 output"
    )


def test_a_graph_goes_through_a_pickle_and_a_copy(fused, tmp_path):
    graph = fused[0]
    joblib.dump({"graph": graph}, tmp_path / "g.joblib")
    back = joblib.load(tmp_path / "g.joblib")["graph"]
    assert (back.digest, back.provenance, back.answers) == (graph.digest, graph.provenance, graph.answers)
    assert copy.deepcopy(graph) is graph


def test_fuse_takes_one_graph_and_tells_what_is_none(graphs):
    assert fuse(graphs[0], views="identity,roll:+1").provenance.kind == "fuse"
    for wrong, said in (({}, "a dict"), (None, "a NoneType"), ([Path], "is no graph")):
        with pytest.raises(ValueError, match=said):
            fuse(wrong)

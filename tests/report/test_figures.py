"""Pictures: the front is right, labels do not cover each other, nothing depends on the clock."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.measure.hops import HopTimes
from rtserve.report.figures import Figure, Point, cost_accuracy, pareto_front
from rtserve.report.fusion_picture import fusion_figure
from rtserve.report.page import Table, cell, render_summary
from rtserve.report.plots import Effect, effects, latencies, predicted_against_true
from rtserve.report.streams import DRAWN, _longest_of_stretches, hop_trace
from rtserve.report.svg import ROLES

POINTS = st.lists(st.tuples(st.floats(1, 1e4), st.floats(0.5, 1.5)), min_size=1, max_size=12)


def points(pairs: list[tuple[float, float]]) -> list[Point]:
    return [Point(label=f"p{k}", cost=cost, value=value) for k, (cost, value) in enumerate(pairs)]


@given(pairs=POINTS, higher=st.booleans())
def test_the_front_is_what_nothing_beats(pairs, higher):
    cloud = points(pairs)
    front = pareto_front(cloud, higher_is_better=higher)
    sign = -1 if higher else 1

    def beaten(p: Point) -> bool:
        return any(
            q.cost <= p.cost
            and sign * q.value <= sign * p.value
            and (q.cost < p.cost or sign * q.value < sign * p.value)
            for q in cloud
        )

    assert all(not beaten(p) for p in front)
    kept = {(p.cost, p.value) for p in front}
    assert all((p.cost, p.value) in kept for p in cloud if not beaten(p))
    assert [p.cost for p in front] == sorted(p.cost for p in front)


@settings(max_examples=8)
@given(pairs=st.lists(st.tuples(st.floats(1, 1e4), st.floats(0.5, 1.5)), min_size=1, max_size=5))
def test_any_cloud_can_be_drawn(pairs):
    figure = cost_accuracy(points(pairs))
    assert figure.svg.startswith("<svg")
    assert len(figure.rows) == len(pairs)


def test_one_point_and_no_point():
    assert "p0 at 5 with 0.9" in cost_accuracy(points([(5.0, 0.9)])).alt
    with pytest.raises(InputError):
        cost_accuracy([])


def test_the_same_drawing_has_the_same_bytes_and_follows_the_page():
    one, two = (cost_accuracy(points([(5.0, 0.9), (9.0, 0.8)])).svg for _ in range(2))
    assert one == two
    assert "var(--first" in one
    assert not any(stand_in in one for stand_in in ROLES.values())
    assert "<text" in one


def test_effects_name_their_verdicts():
    rows = [
        Effect(label="roll:+3", value=-0.01, low=-0.02, high=-0.001, verdict="helps"),
        Effect(label="scale:1.02", value=0.0, low=None, high=None, verdict="inert on this data"),
    ]
    figure = effects(rows, title="Per view", metric_label="NRMSE")
    assert "roll:+3 -0.01 [-0.02, -0.001] (helps)" in figure.alt
    assert figure.rows[1][3] == "inert on this data"
    with pytest.raises(InputError):
        effects([], title="", metric_label="")


def test_latency_of_few_calls_states_no_p99():
    calls = {"few": np.linspace(90, 110, 200), "many": np.linspace(50, 70, 2000)}
    rows = {row[0]: row for row in latencies(calls, title="t").rows}
    assert rows["few"][4] is None
    assert rows["many"][4] == pytest.approx(69.8, abs=0.1)
    with pytest.raises(InputError):
        latencies({}, title="t")


@pytest.mark.parametrize("n", [1, 7, 400, 2000])
def test_every_window_is_in_the_picture(n):
    rng = np.random.default_rng(0)
    y = rng.standard_normal(n)
    figure = predicted_against_true(y, y + rng.standard_normal(n), title="t")
    assert sum(row[2] for row in figure.rows) == n
    assert f"{n} predictions" in figure.alt


def test_a_constant_prediction_can_be_drawn():
    assert "no correlation" in predicted_against_true(np.arange(9.0), np.ones(9), title="t").alt


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), ("", "–"), (True, "yes"), (0.123456, "0.1235"), (123456.7, "123,457"), (5, "5"), ("a", "a")],
)
def test_cells(value, text):
    assert cell(value) == text


def test_summary_of_uneven_rows_is_one_table(tmp_path):
    rows = [{"what": "a", "NRMSE": 0.9}, {"what": "b|c", "us": 3.0}]
    figure = cost_accuracy(points([(5.0, 0.9), (9.0, 0.8)]))
    html, markdown = tmp_path / "s.html", tmp_path / "s.md"
    page = render_summary(
        rows, title="S", figures=[figure], output_html=html, output_md=markdown, lead=["One."], notes=["Simulated."]
    )
    assert page.sections[0].tables[0] == Table(
        columns=("what", "NRMSE", "us"), rows=(("a", 0.9, None), ("b|c", None, 3.0))
    )
    assert "| b\\|c | – | 3 |" in markdown.read_text()
    assert (tmp_path / "s-1.svg").exists()
    with pytest.raises(InputError):
        render_summary(rows, title="S", output_html=html)


LONG = "NRMSE on the held-out subjects of a data set with a long name (simulated)"


def hop_times(y):
    return HopTimes(hop_ms=1.0, late_us=np.abs(y), call_us=300.0 + 3000.0 * (np.arange(len(y)) == 7))


def drawn_figures() -> dict[str, Callable[[], Figure]]:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(50)
    cloud = points([(5.0, 0.9), (900.0, 0.8), (901.0, 0.801)])
    change = Effect(label="a view with a name that needs two lines", value=-0.01, low=-0.02, high=0.1)
    return {
        "cost": lambda: cost_accuracy(cloud, metric_label=LONG, cost_label=LONG),
        "effects": lambda: effects([change], title="t", metric_label=LONG),
        "latencies": lambda: latencies({"one": 10 + y**2, "another": 20 + y**2}, title="t"),
        "predicted": lambda: predicted_against_true(y, y, title="t", unit=LONG),
        "latencies of two powers": lambda: latencies({"one": 100 + 9 * y**2, "another": 900 + y**2}, title="t"),
        "hops": lambda: hop_trace({"one": hop_times(y)}, title="t"),
        "fused": lambda: fusion_figure(fusion_report(members=9, views=11)),
        "fused, one": lambda: fusion_figure(fusion_report(members=1, views=1)),
    }


def fusion_report(*, members: int, views: int) -> dict[str, Any]:
    """What `fuse --json` says, of so many members and views."""
    whole = {"status": "applied", "subject": "whole"}
    return {
        "members": members,
        "architectures": [{"network": "CompactRT", "n_parameters": 74753, "members": members}],
        "views": [f"roll:+{k}" for k in range(views)],
        "merge": {"kind": "mean"},
        "removed": [{"branch": views - 1, "member": 0, "view": "roll", "why": "duplicate"}] if views > 1 else [],
        "passes": [
            whole | {"name": "stack", "reason": "views share " + "a long list of nodes, " * 6, "macs_before": 40_000_000,
                     "macs_after": 23_000_000},
            whole | {"name": "rows", "reason": "30 values", "macs_before": 23_000_000, "macs_after": 23_000_000},
        ],
        "macs": {"before": 40_000_000, "after": 23_000_000},
        "nodes": {"before": 129, "after": 43},
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(drawn_figures()))
def test_no_picture_cuts_a_text_and_no_tick_runs_into_another(name, monkeypatch):
    from rtserve.report import figures, fusion_picture, plots, streams, svg

    found = []

    def kept(figure: Any, *, alt: str) -> str:
        text = svg.to_svg(figure, alt=alt)
        found.append(svg.cut_texts(figure) + svg.overlapping_ticks(figure))
        return text

    for module in (figures, plots, streams, fusion_picture):
        monkeypatch.setattr(module, "to_svg", kept)
    drawn_figures()[name]()
    assert found == [[]]


def test_labels_cover_neither_marks_nor_lines_nor_each_other(monkeypatch):
    from rtserve.report import figures, svg

    seen = []
    monkeypatch.setattr(figures, "to_svg", lambda figure, *, alt: seen.append(figure) or "<svg")
    near = [Point(label=f"ensemble of {k}", cost=100.0 * k, value=1.001, low=0.98, high=1.03) for k in (1, 2, 5)]
    cost_accuracy(near, baseline=1.0)
    axes, renderer = seen[0].axes[0], svg._renderer(seen[0])
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    marks = [box for point in near for box in figures._boxes(axes, point)]
    assert len(boxes) == 4
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in (*boxes[:k], *marks))


def test_a_cut_text_is_noticed():
    from rtserve.report import svg

    with svg.canvas(3.0, 1.0) as (figure, axes):
        axes.set_ylabel(LONG)
        assert svg.cut_texts(figure) == [LONG]
        svg.fit_labels(figure)
        assert LONG not in svg.cut_texts(figure)


def test_ticks_that_run_into_each_other_are_noticed():
    """As matplotlib labels a log axis of less than one power of ten."""
    from rtserve.report import svg

    with svg.canvas(3.0, 1.5) as (figure, axes):
        axes.plot([100.0, 450.0], [1.0, 2.0])
        axes.set_xscale("log")
        assert svg.overlapping_ticks(figure)
        svg.log_scale(axes.xaxis)
        assert not svg.overlapping_ticks(figure)


def test_a_stall_is_in_the_picture_of_many_hops():
    times = HopTimes(hop_ms=1.0, late_us=np.zeros(50_000), call_us=300.0 + 9000.0 * (np.arange(50_000) == 12_345))
    at, answer = _longest_of_stretches(times)
    assert (len(at), answer.max()) == (DRAWN, 9300.0)
    assert at[answer.argmax()] == 12.345
    figure = hop_trace({"one": times}, title="t")
    assert "longest 9300 us, 1 of 50000 hops missed" in figure.alt


def test_what_the_views_of_a_member_share_is_marked():
    report = fusion_report(members=2, views=3)
    assert "Views share a long list of nodes" in fusion_figure(report).alt
    assert "computed once for all views of a member" in fusion_figure(report).svg
    mixed = report | {"architectures": [*report["architectures"], *report["architectures"]]}
    plain = report | {"passes": report["passes"][1:]}
    for other in (mixed, plain, fusion_report(members=2, views=1)):
        assert "computed once" not in fusion_figure(other).svg


def test_the_picture_of_a_fusion_says_what_the_report_says():
    figure = fusion_figure(fusion_report(members=2, views=3))
    assert "6 branches, 1 of them left out" in figure.caption
    assert "129 nodes, now 43" in figure.caption
    assert "40.00 M" in figure.alt
    assert "23.00 M (views share" in figure.alt
    assert [row[:2] for row in figure.rows] == [
        ("one by one", "40.00"), ("stack (whole)", "23.00"), ("rows (whole)", None), ("fused", "23.00"),
    ]  # fmt: skip
    many = fusion_figure(fusion_report(members=40, views=12))
    assert "33 members more" in many.svg
    assert "5 views more" in many.svg

"""What a folder holds is on the page: a graph stands once, with its own scores and times, and what is left out is named."""

import hashlib
import json
import shutil
from zipfile import ZipFile  # noqa: TID251  (to make a bundle-shaped file)

import pytest

from rtserve.errors import BundleError
from rtserve.graphs.graph import Graph
from rtserve.report.build import make_page
from rtserve.report.collect import collect
from rtserve.report.cost import cost_section
from rtserve.report.page import breakable, render_html, short
from rtserve.report.settings import ACROSS

from .conftest import linear


def bundle(path, graph):
    with ZipFile(path, "w") as archive:
        archive.writestr("challenge_1.onnx", graph.to_bytes())
        archive.writestr("manifest.json", json.dumps({"profile": "eeg2025"}))
    return path


@pytest.fixture(scope="module")
def work(results, tmp_path_factory):
    """A folder as people have it: results, graphs and runs in folders of their own, a zip, and a broken graph."""
    folder = tmp_path_factory.mktemp("work") / "work"
    for name in ("results", "graphs", "training", ".cache"):
        (folder / name).mkdir(parents=True)
    for file in results.glob("*.json"):
        shutil.copy(file, folder / "results")
    shutil.copy(results / "fused.onnx", folder / "graphs")
    linear([1.0, 0.0, 0.0]).save(folder / "graphs" / "other.onnx")
    (folder / "graphs" / "broken.onnx").write_bytes(b"no graph")
    (folder / ".cache" / "hidden.onnx").write_bytes(b"no graph")
    for name in ("v1", "v2"):
        shutil.copytree(results / name, folder / "training" / name)
    bundle(folder / "submission.zip", Graph.load(results / "fused.onnx"))
    return folder


@pytest.fixture(scope="module")
def page(work):
    return make_page([work])


def section(page, title):
    return next(s for s in page.sections if s.title == title)


def rows(found):
    (table,) = found.tables
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_a_folder_is_taken_in_as_a_whole(work):
    material = collect([work])
    kinds = sorted((side.kind, side.name) for side in material.sides)
    graphs = [("graph", "fused.onnx"), ("graph", "other.onnx")]
    assert kinds == [*graphs, ("run", "v1"), ("run", "v2"), ("zip", "submission.zip")]
    assert (len(material.evaluations), len(material.benches), len(material.searches)) == (2, 1, 1)
    assert [note.split(":")[0] for note in material.notes if "left out" in note] == [
        "broken.onnx was found and is left out"
    ]
    assert len(collect([work, work / "graphs", work / "graphs" / "fused.onnx"]).sides) == len(kinds)


def test_what_is_named_itself_is_still_refused(work):
    with pytest.raises(Exception, match=r"broken\.onnx"):
        collect([work / "graphs" / "broken.onnx"])
    stranger = json.loads((work / "results" / "single.json").read_text()) | {"graph_sha256": "0" * 64}
    (work.parent / "stranger.json").write_text(json.dumps(stranger))
    files = [work / "results" / "fused.json", work.parent / "stranger.json", work / "submission.zip"]
    with pytest.raises(BundleError, match="which no zip named here holds"):
        collect(files)
    (work.parent / "heap").mkdir()
    for file in files:
        shutil.copy(file, work.parent / "heap")
    notes = collect([work.parent / "heap"]).notes
    assert len(notes) == 1
    assert "which no zip named here holds" in notes[0]


def test_a_graph_stands_once_with_its_score_and_its_time(work, page):
    graphs = {row["graph"]: row for row in rows(section(page, "Graphs"))}
    assert len(graphs) == len(section(page, "Graphs").tables[0].rows) == 3
    document = json.loads((work / "results" / "fused.json").read_text())
    bench = json.loads((work / "results" / "bench.json").read_text())
    fused = graphs["fused.onnx"]
    assert fused["score"].startswith(f"nrmse {document['scores'][0]['value']:.4f} [")
    assert fused["verdict"] == "better than the constant"
    assert fused["time per window, us"].startswith(f"{bench['contenders'][0]['latency_us']['p50']:,.4g} (onnxruntime")
    assert (fused["in the zip"], fused["members x views"]) == ("submission.zip", "2 x 2")
    assert graphs["other.onnx"]["score"] is None
    assert "states no number" not in render_html(page)
    assert [row["version"] for row in rows(section(page, "Attempts"))] == ["v1", "v2", "fused.onnx", "single.onnx"]


def test_cost_against_accuracy_of_graphs_of_two_tasks(work, tmp_path):
    """A score on other windows beside them takes no picture away."""
    for name in ("single", "fused", "bench"):
        shutil.copy(work / "results" / f"{name}.json", tmp_path)
    other = json.loads((tmp_path / "single.json").read_text())
    (tmp_path / "task2.json").write_text(json.dumps(other | {"graph_sha256": "1" * 64, "data_sha256": "2" * 64}))
    (figure,) = section(make_page([tmp_path]), "Cost against accuracy").figures
    assert len(figure.rows) == 2
    (tmp_path / "bench.json").unlink()
    documents = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("single", "fused")]
    work = [
        (name, {"sha256": document["graph_sha256"], "macs": {"after": macs}})
        for name, document, macs in zip(("a", "b"), documents, (4e6, 9e6), strict=True)
    ]
    (figure,) = cost_section([(d["name"], d) for d in documents], [], [], work).figures
    assert [row[:2] for row in figure.rows] == [("single.onnx", 4.0), ("fused.onnx", 9.0)]


def test_an_interval_is_not_broken_within():
    text = str(breakable("a|b <c> -4.39e-05 [-7.51e-05, -1.06e-05] [see]"))
    assert text == 'a|<wbr>b &lt;c&gt; -4.39e-05 <span class="k">[-7.51e-05, -1.06e-05]</span> [see]'


def test_hashes_are_short_on_the_page_and_whole_beneath_it(work, page):
    text = render_html(page)
    digest = Graph.load(work / "graphs" / "fused.onnx").digest
    assert f'title="{digest}">{digest[:12]}<' in text
    assert f">{digest}<" not in text
    assert short(f"a {digest} b") == f"a {digest[:12]} b"
    assert short("0" * 63) == "0" * 63


def test_settings_are_compared_within_a_kind_and_a_few_at_a_time(results, tmp_path):
    for k in range(ACROSS + 1):
        shutil.copytree(results / ("v1" if k % 2 else "v2"), tmp_path / f"run{k}")
    linear([1.0, 0.0, 0.0]).save(tmp_path / "g.onnx")
    tables = section(make_page([tmp_path]), "Settings that differ").tables
    assert [len(table.columns) - 1 for table in tables] == [3, 2]
    assert all("settings.mixup" in [row[0] for row in table.rows] for table in tables)
    assert not any("g.onnx" in table.columns for table in tables)


def test_a_stream_is_in_the_report_with_its_step(tmp_path, results):
    """What `stream --json` says and a benchmark at the pace of a hop; the step's file is no graph of a window."""
    layer = {"name": "c", "op": "Conv", "columns": 20, "computed": 4, "kept": 6, "macs_step": 1e6, "macs_window": 5e6}
    step = b"a step"
    report = {
        "schema": "rtserve.stream/1",
        "output": "/somewhere/step.onnx",
        "sha256": hashlib.sha256(step).hexdigest(),
        "window": {"graph": "fused.onnx", "sha256": "0" * 64},
        "hop": 25,
        "sfreq": 100.0,
        "state_numbers": 1234,
        "macs": {"window": 5e6, "form": 5e6, "step": 1e6},
        "layers": [layer | {"why": "", "elsewhere": 0}],
        "parity": {"verdict": "equal", "max_error": 2e-7},
    }
    (tmp_path / "stream.json").write_text(json.dumps(report))
    (tmp_path / "step.onnx").write_bytes(step)
    bench = json.loads((results / "bench.json").read_text())
    bench["raw"]["hops"] = {"fused": {"hop_ms": 10.0, "late_us": [1.0, 2.0], "call_us": [300.0, 301.0]}}
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    page = make_page([tmp_path])
    found = section(page, "Streaming")
    row = dict(zip(found.tables[0].columns, found.tables[0].rows[0], strict=True))
    assert row["step"] == "step.onnx"
    assert (row["an answer every"], row["of a window's"]) == ("25 samples (250 ms)", "20.0%")
    assert found.tables[1].rows[0][:3] == ("Conv c", "4 of 20", 6)
    assert [figure.title for figure in found.figures] == ["Answers, bench.json"]
    assert "/somewhere" not in render_html(page)
    assert not any(s.title.startswith("Left out") for s in page.sections)
    (tmp_path / "stream.json").unlink()
    assert any(s.title.startswith("Left out") for s in make_page([tmp_path]).sections)

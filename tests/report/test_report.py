"""`rtserve report`: everything that was measured is on the page, and the page says no more than was measured."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree
from zipfile import ZipFile  # noqa: TID251  (to make a bundle-shaped file)

import numpy as np
import pytest

from rtserve.errors import BundleError, InputError
from rtserve.measure.cases import Cases
from rtserve.measure.evaluate import evaluate
from rtserve.measure.evaluation import Evaluation, score_cases, score_predictions
from rtserve.report.attempts import attempts_section, judge
from rtserve.report.build import make_page, write_report
from rtserve.report.collect import collect
from rtserve.report.page import render_html
from tests.measure.conftest import make_windows

from .conftest import linear, train_folder, windows


class Outline(HTMLParser):
    """Tags, references to the outside, pictures without words."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.unspoken = 0
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.references += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action") and v]
        self.unspoken += tag == "svg" and not values.get("aria-label")
        if tag not in ("meta", "link", "br", "wbr", "img", "path", "use", "rect", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


@pytest.fixture(scope="module")
def page(results):
    return make_page([results])


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    return parser


def test_every_section_is_there(page):
    titles = [section.title for section in page.sections]
    expected = [
        "Cost against accuracy",
        "Graphs",
        "Scores",
        "Branches of fused.onnx on trial",
        "What was fused",
        "Latency",
        "Predicted against true",
    ]
    assert titles == [*expected, "Attempts", "Comparisons", "Settings that differ", "Digests", "Environment"]


def test_page_needs_nothing_from_outside(page):
    found = outline(render_html(page))
    assert all(r.startswith(("#", "data:")) for r in found.references)
    text = render_html(page)
    assert not re.search(r"url\(\s*['\"]?(?!#)", text)
    assert "@import" not in text
    assert "<script" not in text


def test_every_picture_has_words_and_a_table(page):
    found = outline(render_html(page))
    assert found.tags.count("svg") == sum(len(s.figures) for s in page.sections) >= 6
    assert found.unspoken == 0
    assert all(f.rows and f.alt for s in page.sections for f in s.figures)
    assert found.open == []


def test_numbers_on_the_page_are_those_of_the_files(page, results):
    text = render_html(page).replace("<wbr>", "")
    fused = json.loads((results / "fused.json").read_text())
    score = fused["scores"][0]
    assert f"{score['value']:.4g}" in text
    assert score["signature"] in text
    assert fused["graph_sha256"] in text
    bench = json.loads((results / "bench.json").read_text())
    assert f"{bench['contenders'][1]['ratio']['value']:.3f}" in text
    search = json.loads((results / "search.json").read_text())
    assert f"{search['nested']['value']:.4f}" in text


def test_a_run_that_was_still_improving_says_so_in_every_form(results, tmp_path):
    folder = tmp_path / "v3"
    folder.mkdir()
    for name in ("best.pth", "result.json"):
        (folder / name).write_bytes((results / "v1" / name).read_bytes())
    page = tmp_path / "r.html"
    assert "still improving" not in render_html(make_page([folder]))
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"rising": True}))
    page.write_text(render_html(make_page([folder])))
    assert "finished, still improving at the end" in page.read_text()


def test_attempts_carry_signature_baseline_and_verdict(results, tmp_path):
    causes = tmp_path / "causes.json"
    causes.write_text(json.dumps({"v1": "the first try", "v9": "never run"}))
    section = next(s for s in make_page([results], causes=causes).sections if s.title == "Attempts")
    table = section.tables[0]
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert set(rows) == {"v1", "v2", "single.onnx", "fused.onnx"}
    assert rows["v1"]["cause"] == "the first try"
    assert rows["v2"]["cause"] == "finished"
    assert rows["v1"]["metric"].startswith("nrmse|norm:std|")
    assert rows["fused.onnx"]["verdict"] == "better than the constant"
    assert float(rows["v1"]["against the constant"]) == pytest.approx(rows["v1"]["value"] - 1, abs=1e-4)
    assert any("v9" in note for note in section.notes)


def test_a_run_of_many_seeds_has_a_row_each_and_one_of_their_mean(tmp_path):
    for seed in (1, 2):
        train_folder(tmp_path / "run" / f"seed{seed}", seed, lr=0.001)
    section = next(s for s in make_page([tmp_path / "run"]).sections if s.title == "Attempts")
    rows = {row[0]: row[1] for row in section.tables[0].rows}
    assert list(rows) == ["run/seed1", "run/seed2", "run (mean of 2)"]
    mean = evaluate(linear([3e4, 1.5e4, 0.0]), windows())["nrmse"].value
    assert rows["run (mean of 2)"] == pytest.approx(mean, rel=1e-5)
    assert rows["run/seed1"] != rows["run/seed2"]


def attempts(*paths):
    section = next(s for s in make_page(list(paths)).sections if s.title == "Attempts")
    table = section.tables[0]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


@pytest.mark.parametrize("known", [True, False])
def test_a_classifier_of_many_seeds_is_shown_by_its_merged_answers(tmp_path, known):
    """Seed 1 is right of the first half, seed 2 of the second, and each is sure where it is right."""
    data = replace(windows(160), y=(np.arange(160) // 2 % 2).astype("f4"), target="class")
    for seed in (1, 2):
        folder, right = train_folder(tmp_path / "run" / f"seed{seed}", seed), np.arange(160) // 80 == seed - 1
        decided = np.where(right, data.y, 1 - data.y)
        second = np.where(right, 0.98 * data.y + 0.01, 0.2 * decided + 0.4)
        cases = Cases.of(data, decided.astype("f4"), np.stack([1 - second, second], axis=1) if known else None)
        metrics = ["balanced_accuracy", "log_loss"] if known else ["balanced_accuracy"]
        test = score_cases(cases, data, metrics=metrics, resamples=50).to_dict()
        result = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(result | {"test": test}))
    rows = attempts(tmp_path / "run")
    assert rows["run/seed1"]["value"] == 0.5
    assert rows["run (mean of 2)"]["value"] == (1.0 if known else None)
    assert rows["run (mean of 2)"]["verdict"] == (
        "better than the constant" if known else "states no number of its own: see the seeds"
    )


def test_a_result_without_its_predictions_stands_where_it_stood_with_them(tmp_path):
    data = windows()
    paths = [tmp_path / f"{name}.json" for name in ("a", "b", "c")]
    for metric in ("nrmse", "mae", "pearson"):
        for path, weights in zip(paths[:2], ([3.2e4, 1e4, 0.0], [1.0, 0.0, 0.0]), strict=True):
            evaluate(linear(weights), data, name=path.stem, metrics=[metric]).save(path, force=True)
        bare = json.loads(paths[0].read_text()) | {"raw": None, "name": "c"}
        paths[2].write_text(json.dumps(bare))
        rows = attempts(*paths)
        assert rows["c"]["p"] == rows["a"]["p"]
        assert "3 attempts of this report" in rows["c"]["p"]
        assert rows["c"]["verdict"] == rows["a"]["verdict"]
    paths[2].write_text(json.dumps(bare | {"against_constant": []}))
    assert attempts(*paths)["c"]["verdict"].endswith("(by itself: its p is not stored)")


def test_a_note_gives_the_verdict_that_the_table_gives(tmp_path):
    """Worse than the constant by itself, and not told apart among three: the page says one of them."""
    data, rng = windows(160), np.random.default_rng(0)
    noise = rng.standard_normal(len(data))

    def scored(size: float) -> Evaluation:
        return score_predictions(data.y.mean() + size * noise, data, name=f"{size:.3f}", resamples=200)

    sizes = np.linspace(0.01, 0.6, 60) * data.y.std()
    worse = next(found for size in sizes if (found := scored(size)).standings[0].side < 0)
    assert any("is worse than 1.00" in note for note in worse.notes)
    for name, each in (("a", worse), ("b", scored(1e-2 * data.y.std())), ("c", scored(2e-2 * data.y.std()))):
        each.save(tmp_path / f"{name}.json")
    page = make_page([tmp_path])
    rows = next(s for s in page.sections if s.title == "Attempts").tables[0]
    assert all("not told apart" in "".join(map(str, row)) for row in rows.rows)
    notes = next(s for s in page.sections if s.title == "Scores").notes
    assert not any("is worse than" in note for note in notes)
    assert any("(3 attempts of this report)" in note for note in notes)


def test_settings_that_differ(page):
    table = next(s for s in page.sections if s.title == "Settings that differ").tables[0]
    assert ("settings.mixup", "False", "True") in [tuple(row[:3]) for row in table.rows]
    assert "settings.lr" not in [row[0] for row in table.rows]


def test_what_is_read_is_told_of_file_by_file(results):
    told = []
    collect([results], progress=lambda *one: told.append(one))
    assert len(told) > 4
    assert [done for done, _, _ in told] == list(range(len(told)))
    assert {total for _, total, _ in told} == {len(told)}
    assert {"fused.json", "bench.json"} <= {name for _, _, name in told}


def test_same_results_same_bytes(results, tmp_path):
    for name in ("a", "b"):
        write_report([results], [tmp_path / name / "r.html", tmp_path / name / "r.md"])
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) >= 8
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in files)
    assert str(results) not in (tmp_path / "a" / "r.html").read_text()


def test_markdown_says_the_same_and_its_pictures_stand_alone(results, tmp_path, page):
    (markdown, *pictures) = write_report([results], [tmp_path / "r.md"])
    text = markdown.read_text()
    for section in page.sections:
        assert f"\n## {section.title}\n" in text
    named = re.findall(r"^!\[.+\]\((.+)\)$", text, re.MULTILINE)
    assert named == [p.name for p in pictures]
    for picture in pictures:
        assert ElementTree.fromstring(picture.read_bytes()).tag.endswith("svg")
        assert "prefers-color-scheme:dark" in picture.read_text()
    widths = [line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|")]
    assert min(widths) >= 2
    assert "\n\n\n" not in text


def test_an_evaluation_of_nothing_hides_nothing(results, tmp_path):
    """One result alone makes a page of just its parts."""
    titles = [s.title for s in make_page([results / "single.json"]).sections]
    assert titles == ["Scores", "Predicted against true", "Attempts", "Digests", "Environment"]


def bundle(path, graph):
    with ZipFile(path, "w") as archive:
        archive.writestr("challenge_1.onnx", graph.to_bytes())
        archive.writestr("manifest.json", json.dumps({"profile": "eeg2025"}))
    return path


def test_scores_beside_a_zip_of_other_graphs_are_refused(results, tmp_path, run_cli):
    other = bundle(tmp_path / "other.zip", linear([1.0, 2.0, 3.0]))
    with pytest.raises(BundleError, match="no score named here was taken on a graph of other"):
        collect([results / "fused.json", other])
    assert run_cli("report", results / "fused.json", other, "-o", tmp_path / "r.html")[0] == 1
    assert not (tmp_path / "r.html").exists()
    from rtserve.graphs.graph import Graph

    same = bundle(tmp_path / "same.zip", Graph.load(results / "fused.onnx"))
    assert collect([results / "fused.json", results / "bench.json", same]).sides


def test_result_of_another_graph_is_refused_also_among_right_ones(results, tmp_path):
    from rtserve.graphs.graph import Graph

    fused = Graph.load(results / "fused.onnx")
    same = bundle(tmp_path / "same.zip", fused)
    stranger = json.loads((results / "single.json").read_text()) | {"graph_sha256": "0" * 64}
    (tmp_path / "stranger.json").write_text(json.dumps(stranger))
    with pytest.raises(BundleError, match=r"000000000000, which no zip named here holds: same\.zip"):
        collect([results / "fused.json", tmp_path / "stranger.json", same])
    member = fused.provenance.details["plan"]["members"][0]
    (tmp_path / "member.json").write_text(json.dumps(stranger | {"graph_sha256": member}))
    assert len(collect([results / "fused.json", tmp_path / "member.json", same]).evaluations) == 2


def test_command(results, tmp_path, run_cli):
    out = tmp_path / "r.html"
    code, _, err = run_cli("report", results, "-o", out, "-o", tmp_path / "r.md", "--title", "A <title> & more")
    assert code == 0
    assert f"wrote {out}" in err
    assert "<h1>A &lt;title&gt; &amp; more</h1>" in out.read_text()
    assert run_cli("report", results / "bench.json", "-o", out)[0] == 2
    assert run_cli("report", results / "bench.json", "-o", out, "--force")[0] == 0


@pytest.mark.parametrize("case", ["pdf", "missing", "empty", "text", "folder"])
def test_bad_input_is_exit_2_and_writes_nothing(case, results, tmp_path, run_cli):
    out = tmp_path / ("r.pdf" if case == "pdf" else "r.html")
    source = results
    if case == "missing":
        source = tmp_path / "no.json"
    elif case == "empty":
        (tmp_path / "e").mkdir()
        source = tmp_path / "e"
    elif case == "text":
        source = tmp_path / "t.json"
        source.write_text("[1, 2")
    elif case == "folder":
        out = tmp_path / "d.html"
        out.mkdir()
    assert run_cli("report", source, "-o", out)[0] == 2
    assert not out.is_file()


def test_leaderboard_on_the_page(results, tmp_path, run_cli):
    board = tmp_path / "board.csv"
    board.write_text("team,overall\nfirst,0.95\nsecond,0.97\n")
    out = tmp_path / "r.md"
    assert run_cli("report", results / "bench.json", "-o", out, "--leaderboard", board, "--score", "0.96")[0] == 0
    assert "0.96 would be rank 2 of 3" in out.read_text()
    assert run_cli("report", results / "bench.json", "-o", tmp_path / "x.md", "--leaderboard", board)[0] == 2


def test_nothing_to_report_is_refused(tmp_path):
    with pytest.raises(InputError):
        collect([])


def test_an_f1_stands_against_what_its_verdict_stands_against():
    scored = replace(make_windows(120), y=(np.arange(120) % 2).astype("f4"), target="class")
    p = np.where(np.random.default_rng(0).random(120) < 0.5, scored.y, 1 - scored.y)
    document = score_cases(Cases.of(scored, p), scored, metrics=["f1"], resamples=200).to_dict(raw=False)
    (row,) = attempts_section(judge([], [("guesses", document)]), {}).tables[0].rows
    assert row[2] == f"{document['scores'][0]['value'] - 0.5:+.4f}"
    assert "0.50, what unrelated answers score" in row[3]

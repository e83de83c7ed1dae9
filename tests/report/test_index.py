"""An index over many runs: a page for each, a row and a link for each page."""

import json
import re
import shutil

import pytest

from rtserve.errors import InputError
from rtserve.report.index import write_index


@pytest.fixture
def runs(results, tmp_path):
    """A folder with two runs of one seed, a folder of results, and one of nothing."""
    folder = tmp_path / "runs"
    for name in ("v1", "v2"):
        shutil.copytree(results / name, folder / name)
    (folder / "graphs & more").mkdir()
    for name in ("single.json", "fused.json", "bench.json"):
        shutil.copy(results / name, folder / "graphs & more")
    (folder / "empty").mkdir()
    return folder


def test_each_folder_has_a_page_and_a_row_that_leads_to_it(runs, tmp_path, run_cli):
    out = tmp_path / "pages" / "index.html"
    code, _, err = run_cli("report", "--index", runs, "-o", out)
    assert code == 0, err
    text = out.read_text()
    links = re.findall(r'<a href="([^"#]+)">([^<]+)</a>', text)
    assert links == [("graphs%20%26%20more.html", "graphs &amp; more"), ("v1.html", "v1"), ("v2.html", "v2")]
    assert sorted(p.name for p in out.parent.iterdir()) == ["graphs & more.html", "index.html", "v1.html", "v2.html"]
    assert "empty has no page" in text
    fused = json.loads((runs / "graphs & more" / "fused.json").read_text())["scores"][0]["value"]
    single = json.loads((runs / "graphs & more" / "single.json").read_text())["scores"][0]["value"]
    assert fused < single
    assert f">{fused:.4g}<" in text
    assert f">{single:.4g}<" not in text
    assert "<h1>v1</h1>" in (out.parent / "v1.html").read_text()
    before = out.read_bytes()
    assert run_cli("report", "--index", runs, "-o", out)[0] == 2
    assert run_cli("report", "--index", runs, "-o", out, "--force")[0] == 0
    assert out.read_bytes() == before


def test_markdown_links(runs, tmp_path):
    told = []
    written = write_index([runs / "v1", runs / "v2"], tmp_path / "i.md", progress=lambda *one: told.append(one))
    assert told == [(0, 2, "v1"), (1, 2, "v2")]
    assert written[0].name == "i.md"
    assert "[v1](v1.md)" in written[0].read_text()
    assert "not across pages" in written[0].read_text()


def test_what_cannot_be_an_index_is_refused_and_writes_nothing(runs, tmp_path, run_cli):
    out = tmp_path / "out" / "v1.html"
    with pytest.raises(InputError, match=r"would both be v1\.html"):
        write_index([runs], out)
    shutil.copytree(runs / "v1", tmp_path / "other" / "v1")
    with pytest.raises(InputError, match="called v1"):
        write_index([runs / "v1", tmp_path / "other" / "v1"], out.with_name("i.html"))
    with pytest.raises(InputError, match="holds no results"):
        write_index([runs / "empty", runs / "v1"], out.with_name("i.html"))
    code, _, err = run_cli("report", "--index", runs, "-o", out.with_name("i.html"), "--score", "1.0")
    assert code == 2
    assert "--score" in err
    assert not out.parent.exists()

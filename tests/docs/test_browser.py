"""The tables' script in headless Chromium: rows are sorted by number, filtered by words, and small tables left alone."""

import json
import re

import pytest

from tests.conftest import ROOT
from tests.report.test_browser import BROWSER, browse

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (make test-browser installs one)"),
]
PAGE = """<!doctype html><meta charset="utf-8"><article>
<table id="t"><thead><tr><th>name</th><th>time</th></tr></thead><tbody>
{rows}</tbody></table><table id="s"><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table></article>
<script>{script}</script><script>
document.addEventListener("DOMContentLoaded", () => {{
  const told = {{}}, heads = document.querySelectorAll("#t th");
  const names = () => Array.from(document.querySelectorAll("#t tbody tr")).filter((r) => !r.hidden)
    .map((r) => r.cells[0].textContent).join("");
  told.before = names();
  heads[1].querySelector("button").click();
  told.up = names();
  told.said = heads[1].getAttribute("aria-sort");
  heads[1].querySelector("button").click();
  told.down = names();
  const box = document.querySelector("input[type=search]");
  box.value = "1,452";
  box.dispatchEvent(new Event("input"));
  told.filtered = names();
  told.count = document.querySelector("[role=status]").textContent;
  told.small = document.querySelectorAll("#s button").length;
  document.title = JSON.stringify(told);
}});
</script>"""
TIMES = {
    "a": "1,452",
    "b": "-",
    "c": "9.5 [9.0, 10.0]",
    "d": "12",
    "e": "10.20 > 2.07",
    "f": "1e-06",
    "g": "",
    "h": "100",
}


def test_a_click_sorts_and_a_word_filters(tmp_path):
    rows = "".join(f"<tr><td>{name}</td><td>{text}</td></tr>" for name, text in TIMES.items())
    script = (ROOT / "docs" / "static" / "tables.js").read_text()
    (tmp_path / "p.html").write_text(PAGE.format(rows=rows, script=script))
    page = browse(tmp_path / "p.html", tmp_path, "--dump-dom").stdout
    told = json.loads(re.search(r"<title>(.*?)</title>", page)[1].replace("&gt;", ">"))
    assert told == {
        "before": "abcdefgh", "up": "fcedhagb", "said": "ascending", "down": "ahdecfgb",
        "filtered": "a", "count": "1 of 8 rows", "small": 0,
    }  # fmt: skip

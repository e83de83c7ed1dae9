"""The report in headless Chromium: no console error, no request to anywhere, readable in light, dark and on a phone."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib.image
import numpy as np
import pytest

from rtserve.report.build import write_report

BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome", "chrome") if (p := shutil.which(n))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (make test-browser installs one)"),
]
PHONE = """<!doctype html><meta charset="utf-8"><title>waiting</title>
<iframe id="f" src="r.html" style="width:390px;height:844px;border:0"></iframe>
<script>
document.getElementById("f").addEventListener("load", function () {
  var d = this.contentDocument, wide = d.documentElement.scrollWidth;
  var small = Array.from(d.querySelectorAll("p, td, th, li, summary, figcaption")).filter(
    function (e) { return parseFloat(d.defaultView.getComputedStyle(e).fontSize) < 12; }).length;
  var pictures = Array.from(d.querySelectorAll("figure svg")).filter(
    function (e) {
      var b = e.getBoundingClientRect();
      return b.width > 300 && b.width <= 390 && b.height > 60;
    }).length;
  var cut = Array.from(d.querySelectorAll("td")).filter(
    function (e) { return e.getBoundingClientRect().right > 390; }).length;
  document.title = JSON.stringify({wide: wide, small: small, pictures: pictures, cut: cut});
});
</script>"""


def browse(page: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        BROWSER,
        "--headless=new",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        *arguments,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    write_report([results], [folder / "r.html", folder / "r.md"])
    return folder / "r.html"


def screenshot(report: Path, folder: Path, *arguments: str) -> np.ndarray:
    """Take a screenshot, kept where RTSERVE_SCREENSHOTS names a folder; returns (height, width, rgb) in 0..1."""
    path = folder / "shot.png"
    browse(report, folder, "--window-size=1000,1600", f"--screenshot={path}", *arguments)
    keep = os.environ.get("RTSERVE_SCREENSHOTS")
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, Path(keep) / f"report{'-dark' if arguments else ''}.png")
    return matplotlib.image.imread(path)[..., :3]


def outside_requests(log: Path) -> set[str]:
    """URLs that the page asked for over the network; the browser's own housekeeping is not the page's."""
    text = log.read_text()
    try:
        events = json.loads(text)["events"]
    except ValueError:  # the browser was ended before it closed the list
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    urls = {e["params"]["url"] for e in events if "url" in e.get("params", {})}
    own = ("google.com", "googleapis.com", "gstatic.com", "gvt1.com")
    return {u for u in urls if u.startswith(("http:", "https:", "ws:")) and not urlsplit(u).netloc.endswith(own)}


def test_no_console_error_and_no_request(report, tmp_path):
    log = tmp_path / "net.json"
    done = browse(report, tmp_path, f"--log-net-log={log}", "--dump-dom")
    assert "CONSOLE" not in done.stderr
    assert "<h1>" in done.stdout
    assert not outside_requests(log)


def test_a_page_that_asks_the_network_is_caught(report, tmp_path):
    """The gate of the test above: the same page with a script error and an outside picture must fail it."""
    bad = tmp_path / "bad.html"
    bad.write_text(report.read_text() + '<script>nothing()</script><img src="http://host.invalid/x.png">')
    log = tmp_path / "net.json"
    done = browse(bad, tmp_path, f"--log-net-log={log}", "--dump-dom")
    assert "CONSOLE" in done.stderr
    assert outside_requests(log) == {"http://host.invalid/x.png"}


def test_light_and_dark_are_painted(report, tmp_path):
    light = screenshot(report, tmp_path)
    dark = screenshot(report, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert light[2, 2].min() > 0.95
    assert dark[2, 2].max() < 0.2
    for shot in (light, dark):
        paper = shot[2, 2]
        written = np.abs(shot - paper).max(axis=2) > 0.3
        assert 0.01 < written.mean() < 0.5
        colours = np.unique((shot[written] * 7).astype(int), axis=0)
        assert len(colours) > 8


def test_a_phone_need_not_scroll_sideways(report, tmp_path):
    page = report.parent / "phone.html"
    page.write_text(PHONE)
    done = browse(page, tmp_path, "--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom")
    found = json.loads(done.stdout.split("<title>")[1].split("</title>")[0])
    assert found["wide"] <= 390
    assert found["small"] == 0
    assert found["cut"] == 0
    assert found["pictures"] >= 6


def test_no_column_is_cut_on_a_screen(report, tmp_path):
    """At 1280 px no table, folded ones too, scrolls sideways."""
    page = report.parent / "wide.html"
    script = (
        "var d = this.contentDocument; d.querySelectorAll('details').forEach(function (e) { e.open = true; });"
        "document.title = JSON.stringify(Array.from(d.querySelectorAll('.scroll')).map("
        "function (e) { return e.scrollWidth - e.clientWidth; }));"
    )
    page.write_text(
        '<!doctype html><meta charset="utf-8"><title>waiting</title>'
        '<iframe id="f" src="r.html" style="width:1280px;height:900px;border:0"></iframe><script>'
        f'document.getElementById("f").addEventListener("load", function () {{ {script} }});</script>'
    )
    arguments = (
        "--allow-file-access-from-files",
        "--virtual-time-budget=4000",
        "--dump-dom",
        "--window-size=1400,1000",
    )
    found = json.loads(browse(page, tmp_path, *arguments).stdout.split("<title>")[1].split("</title>")[0])
    assert len(found) > 10
    assert max(found) <= 1


def test_pictures_of_the_markdown_are_painted_by_themselves(report, tmp_path):
    picture = report.parent / "r-1.svg"
    shot = tmp_path / "shot.png"
    browse(picture, tmp_path, "--window-size=700,500", f"--screenshot={shot}")
    image = matplotlib.image.imread(shot)[..., :3]
    assert len(np.unique((image.reshape(-1, 3) * 7).astype(int), axis=0)) > 5

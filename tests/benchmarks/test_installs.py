"""`make test-install` leaves out no extra of pyproject.toml, and its record has them all."""

import json
import sys
import tomllib

from rtserve.cli.doctor import EXTRAS
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import installs


def declared(root):
    return set(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])


def test_every_extra_has_its_row_and_a_command_that_needs_it(repo_dir):
    each = declared(repo_dir) - set(installs.OURS)
    assert {name: (name,) for name in each} == {k: v for k, v in installs.extras().items() if k not in ("alone", "all")}
    assert set(installs.extras()["all"]) == each == set(installs.PROBES) - {"alone"} == set(EXTRAS)
    assert all(installs.PROBES.values())
    page = (repo_dir / "README.md").read_text("utf-8")
    assert [name for name in each if f"`{name}`" not in page] == []
    assert set(installs.REFUSED) <= each


def test_an_extra_that_comes_new_gets_a_row(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[project.optional-dependencies]\nx = ["y"]\ntest = ["pytest"]\n')
    monkeypatch.setattr(installs, "ROOT", tmp_path)
    assert installs.extras() == {"alone": (), "x": ("x",), "all": ("x",)}


def test_the_record_has_a_row_for_each_of_a_python_and_none_failed():
    rows = json.loads(installs.RESULTS.read_text("utf-8"))["rows"]
    tried = {
        python: [row["extras"] for row in rows if row["python"] == python] for python in {r["python"] for r in rows}
    }
    assert list(installs.extras()) in tried.values()
    assert [row for row in rows if row["failed"]] == []
    assert installs.RESULTS.with_suffix(".md").read_text("utf-8") == installs.table(rows)

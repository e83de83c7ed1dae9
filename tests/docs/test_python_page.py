"""The blocks of docs/python.md run as they stand, in order, as a notebook's cells would."""

from __future__ import annotations

import re
import sys
import types

import pytest

from rtserve.measure.comparison import Comparison
from rtserve.measure.evaluation import Evaluation


def shown(block: str, names: dict[str, object]) -> object:
    """Run a cell; return what a notebook would show: the value of a last line that is a name."""
    exec(compile(block, "<cell>", "exec"), names)
    last = block.rstrip().splitlines()[-1]
    return names.get(last)


@pytest.fixture
def main_module(monkeypatch):
    """A `__main__` of its own, in which a notebook's classes live."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def test_every_block_runs_and_shows_what_it_is(repo_dir, tmp_path, monkeypatch, capsys, main_module):
    page = (repo_dir / "docs" / "python.md").read_text("utf-8")
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    assert len(blocks) == page.count("```") // 2 == 5
    monkeypatch.chdir(tmp_path)
    names = vars(main_module)
    results = [shown(block, names) for block in blocks]
    assert (tmp_path / "net.onnx").is_file()
    assert isinstance(results[1], Evaluation)
    assert isinstance(names["versus"], Comparison)
    assert names["versus"].comparable
    assert "fused of 1 members x 3 views" in results[2]._repr_html_()
    said = capsys.readouterr().out
    assert 'hint: state it: unit="uV"' in said
    assert "not comparable" not in said
    assert names["net"].training

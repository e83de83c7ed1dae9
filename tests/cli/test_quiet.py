"""With --quiet talk is left out, and results, warnings and errors stay."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from rtserve.cli import output
from rtserve.cli.main import cli, main
from rtserve.cli.progress import progress


def invoke(*args):
    return CliRunner().invoke(cli, list(args), prog_name="rtserve")


@pytest.mark.parametrize("place", ["before", "behind", "not"])
def test_talk_is_left_out_and_the_result_stays(place, tmp_path):
    args = ["simulate", "-o", str(tmp_path / "W.npz"), "--windows", "8"]
    args = {"before": ["--quiet", *args], "behind": [*args, "--quiet"], "not": args}[place]
    done = invoke(*args)
    assert done.exit_code == 0, done.output
    assert "planted r = 0.46" in done.stdout
    assert ("wrote" in done.stderr) is (place == "not")
    assert not output.is_quiet()


def test_a_result_on_stderr_stays_unless_json_says_it(tmp_path, small_members):
    args = ["fuse", str(small_members[0]), "--no-optimize", "--quiet"]
    told = invoke(*args, "-o", str(tmp_path / "a.onnx"))
    assert told.exit_code == 0, told.output
    assert "parity" in told.stderr
    both = invoke(*args, "-o", str(tmp_path / "b.onnx"), "--json")
    assert both.stderr == ""
    assert json.loads(both.stdout)["schema"].startswith("rtserve.fuse/")


def test_errors_and_warnings_stay(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["inspect", "none.npz", "--quiet"])
    assert capsys.readouterr().err.startswith("error: file none.npz does not exist\nhint: ")

    def interrupted(*_, **__):
        (tmp_path / "run").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("rtserve.training.commands.run_train", interrupted)
    with pytest.raises(SystemExit):
        main(["train", "W.npz", "-o", "run", "--quiet"])
    assert "with --resume goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_is_talk(quiet, monkeypatch, capsys):
    monkeypatch.setattr(output, "EVERY_S", 0.01)
    monkeypatch.setattr("rtserve.cli.progress._EVERY_S", 0.0)
    output.hush(quiet)
    try:
        with output.working("thinking"):
            time.sleep(0.1)
        with progress("counting") as bar:
            bar(1, 3)
    finally:
        output.hush(False)
    said = capsys.readouterr().err
    assert ("thinking: " in said, "counting: 1 of 3, about " in said) == (not quiet, not quiet)

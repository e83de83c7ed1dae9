"""Finding one's way: groups, one line a command, examples that parse, names that are nearly right."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from rtserve.cli.commands import GROUPS, entries
from rtserve.cli.listing import LISTS, MERGES
from rtserve.cli.main import cli, main


def invoke(*args, **more):
    return CliRunner().invoke(cli, list(args), prog_name="rtserve", **more)


@pytest.mark.parametrize("columns", ["80", "120", "200"])
def test_the_help_names_every_command_in_a_line_of_its_own(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    lines = invoke("--help").output.splitlines()
    for title in GROUPS:
        assert f"{title}:" in lines
    for name, entry in entries().items():
        assert [line.split() for line in lines].count([name, *entry.summary.split()]) == 1, name
    assert not any(line.endswith("...") for line in lines[1:])


def test_the_help_imports_no_command_and_nothing_heavy():
    code = (
        "import sys\nfrom rtserve.cli.main import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "print(sorted(m for m in sys.modules if m.startswith(('rtserve.cli.', 'torch', 'numpy', 'onnx'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    light = ["choice", "commands", "common", "help", "main", "options", "output", "plain", "reader"]
    assert done.stdout.splitlines()[-1] == str([f"rtserve.cli.{name}" for name in light])


def parsed(command: click.Command, context: click.Context, args: list[str]) -> None:
    """Parse arguments down to the last subcommand, without reading a file or running anything."""
    if isinstance(command, click.Group):
        assert args[0] in command.commands, args
        inner = command.commands[args[0]]
        parsed(inner, click.Context(inner, parent=context, info_name=args[0]), args[1:])
        return
    values, rest, _ = command.make_parser(context).parse_args(list(args))
    assert not rest
    missing = [p.name for p in command.params if p.required and not values.get(p.name)]
    assert not missing, f"{args} lacks {missing}"


@pytest.mark.parametrize("name", entries())
def test_every_command_shows_examples_that_it_can_parse(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    text = re.sub(r" \\\n +", " ", invoke(name, "--help").output)
    for example in entries()[name].examples:
        assert f"  {example}" in text
        program, first, *rest = shlex.split(example)
        assert (program, first) == ("rtserve", name)
        parsed(command, click.Context(command, info_name=name), rest)


@pytest.mark.parametrize(("typed", "meant"), [("evalute", "evaluate"), ("fues", "fuse"), ("lst", "list")])
def test_a_mistyped_command_is_told_the_nearest(typed, meant):
    done = invoke(typed, "x")
    assert done.exit_code == 2
    assert f"no command '{typed}'; did you mean {meant}" in done.output


def test_a_command_that_resembles_none_points_to_the_help():
    assert "see `rtserve --help`" in invoke("zzzzzzzz").output


@pytest.mark.parametrize("what", LISTS)
def test_lists_are_the_same_for_people_and_machines(what):
    shown, told = invoke("list", what), invoke("list", what, "--json")
    assert (shown.exit_code, told.exit_code) == (0, 0), shown.output
    names = json.loads(told.stdout)["names"]
    assert names
    for name in names:
        assert any(line.startswith(name) for line in shown.output.splitlines()), name


def test_only_exporters_are_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "exporters"
    folder.mkdir()
    (folder / "net.py").write_text('r"""Nets of mine.\n\nMore."""\ndef exporter(shapes, settings): ...\n')
    (folder / "two.py").write_text('"""Two."""\nexporter: object = 1\ndef small(shapes, settings): ...\n')
    (folder / "any.py").write_text('"""Any class."""\ndef __getattr__(name): ...\n')
    (folder / "other.py").write_text("from net import exporter\n")
    (folder / "helper.py").write_text('r"""Mathematics."""\ndef root(a): ...\nraise RuntimeError("not run")\n')
    (folder / "broken.py").write_text("def (\n")
    names = json.loads(invoke("list", "exporters", "--json").stdout)["names"]
    names.pop("rtserve.training.networks:exporter")
    assert names.pop("exporters/broken.py").startswith("cannot be read as Python: invalid syntax")
    assert names == {
        "exporters/any.py:NAME": "Any class.",
        "exporters/net.py": "Nets of mine.",
        "exporters/other.py": "",
        "exporters/two.py": "Two.",
        "exporters/two.py:small": "Two.",
    }


def test_lists_hold_what_there_is():
    from rtserve.fusion import plan, views

    assert [views.parse_view(name).kind for name in LISTS["views"]()] == list(views.KINDS)
    assert set(MERGES) == set(plan.KINDS)


def test_the_doctor_says_what_is_missing_and_how_to_get_it(monkeypatch):
    import importlib.metadata

    real = importlib.metadata.version

    def version(name):
        if name in ("openvino", "braindecode"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setenv("PATH", "")
    done = invoke("doctor", "--json")
    assert done.exit_code == 0, done.output
    found = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["openvino (the engine openvino)"]["state"] == "missing"
    assert found["openvino (the engine openvino)"]["cure"] == 'pip install "rtserve[openvino]"'
    assert found["onnxruntime"]["state"] == "ok"
    compiler = next(finding for what, finding in found.items() if what.startswith("C compiler"))
    assert (compiler["state"], compiler["cure"].split(",")[0]) == ("missing", "apt-get install gcc")
    text = invoke("doctor").output
    assert "- openvino (the engine openvino) (missing)" in text
    assert 'pip install "rtserve[openvino]"' in text


def test_the_extras_that_the_doctor_knows_are_those_of_the_package():
    import tomllib

    from rtserve.cli.doctor import EXTRAS
    from tests.conftest import ROOT

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"test", "dev", "docs"}


@pytest.mark.parametrize(
    ("args", "module", "kept"),
    [
        (["train", "W.npz", "-o", "OUT"], "rtserve.training.commands.run_train", "OUT"),
        (
            ["ablate", "W.npz", "--change", "mixup_alpha=0.2", "-o", "OUT"],
            "rtserve.training.commands.run_ablate",
            "OUT",
        ),
        (["prepare", "x.edf", "-o", "OUT.npz"], "rtserve.signals.commands.run_prepare", "OUT.npz.parts"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupted_run_says_how_it_is_gone_on_with(args, module, kept, begun, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        if begun:
            (tmp_path / kept).mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, interrupted)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(args)
    said = capsys.readouterr().err
    assert ended.value.code == 130
    assert said.splitlines()[-1] == "interrupted"
    assert (f"kept in {kept}: the same command with --resume" in said) is begun

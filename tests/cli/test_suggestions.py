"""Whoever mistypes a command, an option, a word that an option takes, or a file is told what is near."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from rtserve.cli.choice import OneOf
from rtserve.cli.commands import entries
from rtserve.cli.main import cli, main


def every_command():
    """Yield each command with the words that call it, subcommands too."""
    for name in entries():
        command = cli.get_command(click.Context(cli), name)
        yield (name,), command
        for below in getattr(command, "commands", {}):
            yield (name, below), command.commands[below]


CHOICES = [
    pytest.param(path, command, parameter, id=f"{'-'.join(path)}-{parameter.name}")
    for path, command in every_command()
    for parameter in command.params
    if isinstance(parameter.type, click.Choice)
]
LONG = [case for case in CHOICES if max(map(len, case.values[2].type.choices)) > 3]
"""Those with a word that is long enough to be mistyped."""


@pytest.mark.parametrize(("path", "command", "parameter"), CHOICES)
def test_every_option_of_words_is_of_the_kind_that_names_the_nearest(path, command, parameter):
    assert isinstance(parameter.type, OneOf)


@pytest.mark.parametrize(("path", "command", "parameter"), LONG)
def test_every_option_of_words_names_the_nearest(path, command, parameter):
    word = max(parameter.type.choices, key=len)
    with pytest.raises(click.BadParameter, match=f"; did you mean {word}"):
        parameter.type.convert(word[:-2] + word[-1], parameter, click.Context(command))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["env", "creat", "x"], "no command 'creat'; did you mean create?"),
        (["env", "zzzzz"], "no command 'zzzzz'; see `rtserve env --help`"),
        (["profiles", "shwo", "x"], "no command 'shwo'; did you mean show"),
        (["fuse", "M.onnx", "--engine", "openvin", "-o", "F.onnx"], "; did you mean openvino?"),
        (["annotate", "W.npz", "--unit", "uv"], "; did you mean uV?"),
        (["annotate", "W.npz", "--unit", "parsec"], "'parsec' is not one of 'V', 'mV', 'uV', '1'."),
        (["simulate", "-o", "W.npz", "--windws", "4"], "--windows"),
    ],
)
def test_what_is_mistyped_is_told_the_nearest(args, said):
    done = CliRunner().invoke(cli, args, prog_name="rtserve")
    assert done.exit_code == 2
    assert said in done.output


FILES = {
    "inspect": ["inspect", "W.nzp"],
    "train": ["train", "W.nzp", "-o", "run"],
    "prepare": ["prepare", "W.nzp", "-o", "X.npz"],
    "evaluate": ["evaluate", "M.onnx", "--data", "W.nzp"],
    "fuse": ["fuse", "W.nzp", "-o", "F.onnx"],
    "check": ["check", "W.nzp"],
    "verify": ["verify", "W.nzp"],
    "replay": ["replay", "W.nzp"],
    "build": ["build", "W.nzp", "-o", "s.zip"],
    "bench": ["bench", "W.nzp"],
    "stream": ["stream", "W.nzp", "--hop", "2", "-o", "S.onnx"],
    "run": ["run", "W.nzp", "--source", "synthetic"],
    "push": ["push", "W.nzp", "-o", "hub"],
    "compile": ["compile", "W.nzp", "-o", "F.so"],
    "settings": ["train", "W.npz", "--config", "W.nzp", "-o", "run"],
    "weights": ["fuse", "M.onnx", "--merge", "weighted:W.nzp", "-o", "F.onnx"],
    "order": ["fuse", "M.onnx", "--views", "permute:W.nzp", "-o", "F.onnx"],
}
"""W.npz (an empty file) is beside the folder's other files; every command is asked for W.nzp."""


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_told_the_nearest(name, tmp_path, monkeypatch, capsys, small_members):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "W.npz").touch()
    (tmp_path / "M.onnx").write_bytes(small_members[0].read_bytes())
    with pytest.raises(SystemExit) as ended:
        main(FILES[name])
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert said[-1] == "hint: did you mean W.npz?", said

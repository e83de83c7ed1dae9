"""Defaults in rtserve.toml: found, taken, said, shown, and refused by name where they are wrong."""

from __future__ import annotations

import json
import tomllib

import click
import numpy as np
import pytest
from click.testing import CliRunner

from rtserve.cli.defaults import Defaults, defaults_for
from rtserve.cli.main import cli, main
from rtserve.errors import InputError
from tests.cli.test_suggestions import every_command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("RTSERVE_CONFIG", raising=False)
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep")
    return tmp_path


def invoke(*args):
    return CliRunner().invoke(cli, list(args), prog_name="rtserve")


def simulated(*more):
    done = invoke("simulate", "-o", "W.npz", "--force", *more)
    assert done.exit_code == 0, done.output
    with np.load("W.npz") as windows:
        return len(windows["y"]), done


def test_the_nearest_file_upward_gives_defaults_and_is_said(folder):
    (folder / "rtserve.toml").write_text("[simulate]\nwindows = 12\nr = 0.5\n")
    count, done = simulated()
    assert (count, "planted r = 0.5" in done.stdout) == (12, True)
    assert done.stderr.splitlines()[0] == f"from {folder / 'rtserve.toml'}: --windows 12, --r 0.5"
    (folder / "deep" / "rtserve.toml").write_text("[simulate]\nwindows = 8\n")
    count, done = simulated()
    assert (count, "planted r = 0.46" in done.stdout) == (8, True)


def test_the_command_line_goes_before_the_file_and_quiet_says_nothing(folder):
    (folder / "rtserve.toml").write_text("[simulate]\nwindows = 12\n[train]\njobs = 2\n")
    count, done = simulated("--windows", "6")
    assert (count, "from " in done.stderr) == (6, False)
    count, done = simulated("--quiet")
    assert (count, done.stderr) == (12, "")


def test_a_variable_names_the_file_or_none(folder, monkeypatch):
    (folder / "rtserve.toml").write_text("[simulate]\nwindows = 12\n")
    (folder / "mine.toml").write_text("[simulate]\nwindows = 9\n")
    monkeypatch.setenv("RTSERVE_CONFIG", str(folder / "mine.toml"))
    assert simulated()[0] == 9
    monkeypatch.setenv("RTSERVE_CONFIG", "")
    assert simulated("--windows", "7")[0] == 7
    monkeypatch.setenv("RTSERVE_CONFIG", str(folder / "mien.toml"))
    with pytest.raises(InputError, match=r"mien.toml does not exist\nhint: did you mean .*mine.toml\?"):
        cli.main(["simulate", "-o", "W.npz"], standalone_mode=False)


WRONG = {
    "command": ("[benhc]\nrounds = 2", "there is no command 'benhc'", "did you mean bench?"),
    "option": ("[simulate]\nwindws = 2", "[simulate]: there is no option 'windws'", "did you mean windows?"),
    "text for a number": ('[simulate]\nwindows = "2"', "[simulate]: windows is '2'", "it takes a whole number"),
    "truth for a number": ("[simulate]\nr = true", "[simulate]: r is True", "it takes a number"),
    "number for a text": ("[simulate]\ntarget = 2", "[simulate]: target is 2", "it takes a text in quotes"),
    "out of range": ("[simulate]\nwindows = 0", "[simulate]: windows: 0 is not in the range x>=1", "--help"),
    "a list": ("[simulate]\nwindows = [2]", "[simulate]: windows is [2]", "write one value"),
    "no table": ("simulate = 2", "[simulate] is 2, not a table", "write [simulate]"),
    "a safeguard": ("[simulate]\nforce = true", "[simulate]: force waives a safeguard", "give --force with the call"),
    "no TOML": ("[simulate", "is not TOML", "rounds = 20"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_by_name(name, folder, capsys):
    text, said, hint = WRONG[name]
    (folder / "rtserve.toml").write_text(text)
    for args in (["simulate", "-o", "W.npz"], ["config"]):
        with pytest.raises(SystemExit) as ended:
            main(args)
        error = capsys.readouterr().err
        assert ended.value.code == 2
        assert said in error, error
        assert hint in error, error
    assert not (folder / "deep" / "W.npz").exists()


def refused(text, command, *words):
    with pytest.raises(InputError) as caught:
        defaults_for(Defaults(path="x", tables=tomllib.loads(text)), command, words)
    return str(caught.value)


def command_of(*words):
    command = cli.get_command(click.Context(cli), words[0])
    return command if len(words) == 1 else command.commands[words[1]]


def test_recipes_and_safeguards_are_never_changed():
    assert "takes no defaults" in refused("[build]\nunit = 'uV'", command_of("build"), "build")
    assert "waives a safeguard" in refused("[export]\ntrusted = true", command_of("export"), "export")
    assert "did you mean mse" not in refused("[fuse]\nmrge = 'mean'", command_of("fuse"), "fuse")


def test_words_lists_and_subcommands_are_checked():
    assert "did you mean openvino?" in refused("[fuse]\nengine = 'openvin'", command_of("fuse"), "fuse")
    assert "write a list" in refused("[check]\nselect = 'RT1'", command_of("check"), "check")
    assert "did you mean create?" in refused("[env.creat]\npath = 'x'", command_of("env"), "env")
    given = defaults_for(Defaults(path="x", tables={"env": {"create": {"path": "x"}}}), command_of("env"), ("env",))
    assert given == {"create": {"path": "x"}}


def test_config_shows_every_value_and_where_it_comes_from(folder):
    file = folder / "rtserve.toml"
    file.write_text('[bench]\nrounds = 20\n[check]\nselect = ["RT1", "RT2"]\n')
    lines = invoke("config").stdout.splitlines()
    assert lines[0] == f"defaults: {file}"
    assert f"  bench --rounds 20  ({file})" in lines
    assert f"  check --select RT1,RT2  ({file})" in lines
    assert "  bench --threads 1  (default)" in lines
    assert "  bench --hop-ms not given  (default)" in lines
    told = json.loads(invoke("config", "bench", "--json").stdout)
    assert told["file"] == str(file)
    assert {row["command"] for row in told["values"]} == {"bench"}
    assert [row for row in told["values"] if row["from"] != "default"] == [
        {"command": "bench", "option": "rounds", "value": 20, "from": str(file)}
    ]


def test_config_names_options_of_every_command(folder):
    shown = {(row["command"], row["option"]) for row in json.loads(invoke("config", "--json").stdout)["values"]}
    assert {command for command, _ in shown} >= {"train", "env create", "prepare"}
    for words, command in every_command():
        for parameter in command.params:
            name = max(parameter.opts, key=len).removeprefix("--")
            if (
                isinstance(parameter, click.Option)
                and not parameter.required
                and name not in ("force", "trusted", "quiet")
            ):
                waives = name in ("allow-leakage", "trust-subjects", "force-views")
                assert ((" ".join(words), name) in shown) is not waives, (words, name)


def test_config_of_no_command_is_told_the_nearest(folder, capsys):
    with pytest.raises(SystemExit):
        main(["config", "bnech"])
    assert "hint: did you mean bench?" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["list", "views"], ["completion", "bash"], ["--help"], ["bench", "--help"]])
def test_help_is_to_be_had_with_a_broken_file(args, folder):
    (folder / "rtserve.toml").write_text("[")
    done = invoke(*args)
    assert done.exit_code == 0, done.output

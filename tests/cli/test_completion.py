"""Shell completion: the scripts, what they are answered, and that nothing heavy is loaded for that."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from rtserve.cli.commands import entries
from rtserve.cli.main import cli
from tests.conftest import ROOT

RTSERVE = f"{shlex.quote(sys.executable)} -c 'from rtserve.cli.main import main; main()'"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_that_the_shell_can_read(shell, tmp_path):
    done = CliRunner().invoke(cli, ["completion", shell], prog_name="rtserve")
    assert done.exit_code == 0, done.output
    assert "_RTSERVE_COMPLETE" in done.stdout
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.stdout)
        subprocess.run([shell, "-n", str(script)], check=True)


def test_another_shell_is_refused():
    done = CliRunner().invoke(cli, ["completion", "bsh"], prog_name="rtserve")
    assert (done.exit_code, "did you mean bash?" in done.output) == (2, True)


def completed(*words):
    """Return what a shell is answered for a line whose last word is being typed."""
    asked = {"_RTSERVE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rtserve"], capture_output=True, text=True, check=True, cwd=ROOT,
        env=os.environ | asked,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    return done.stdout.splitlines(), loaded


def test_commands_are_completed_without_loading_any():
    answers, loaded = completed("rtserve", "")
    assert answers == [f"plain,{name}" for name in entries()]
    assert not [name for name in loaded if name.startswith(("torch", "numpy", "onnx", "rtserve.cli.measure"))]


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (("rtserve", "fu"), ["plain,fuse"]),
        (("rtserve", "fuse", "--eng"), ["plain,--engine"]),
        (("rtserve", "fuse", "--engine", "openv"), ["plain,openvino"]),
        (("rtserve", "list", "vi"), ["plain,views"]),
        (("rtserve", "env", "cr"), ["plain,create"]),
        (("rtserve", "fuse", "M"), ["file,M"]),
    ],
)
def test_options_words_and_files_are_completed_without_torch(words, answers):
    found, loaded = completed(*words)
    assert found == answers
    assert not [name for name in loaded if name.startswith(("torch", "onnx"))]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_with_the_script(tmp_path):
    command = tmp_path / "rtserve"
    command.write_text(f"#!/bin/sh\nexec {RTSERVE}\n")
    command.chmod(0o755)
    script = CliRunner().invoke(cli, ["completion", "bash"], prog_name="rtserve").stdout
    typed = 'COMP_WORDS=(rtserve ev); COMP_CWORD=1; _rtserve_completion rtserve; echo "${COMPREPLY[@]}"'
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{typed}"], capture_output=True, text=True, check=True, cwd=ROOT,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == ["evaluate"], done.stderr

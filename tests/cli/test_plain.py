"""A terminal in an older locale is shown every outcome, and a machine gets JSON that it can read."""

import io
import json
import sys

import click
import pytest

from rtserve.cli.main import main
from rtserve.cli.output import emit_json
from rtserve.cli.plain import speak_plainly


@pytest.fixture
def stdout(monkeypatch):
    """Put a stdout of an encoding in place; what it was given is returned as text."""

    def of(encoding):
        taken = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(taken, encoding=encoding))
        return lambda: (sys.stdout.flush(), taken.getvalue().decode(encoding))[1]

    return of


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "✓ größer – ő"), ("iso-8859-1", r"+ größer - \u0151"), ("iso-8859-2", "+ größer - ő")],
)
def test_what_an_encoding_lacks_is_shown_plainly(encoding, shown, stdout):
    said = stdout(encoding)
    speak_plainly()
    click.echo("✓ größer – ő")
    assert said() == shown + "\n"


def test_a_name_that_is_no_text_is_shown(stdout):
    said = stdout("utf-8")
    speak_plainly()
    click.echo("wrote W\udcff.npz")
    assert said() == "wrote W\\udcff.npz\n"


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1"])
def test_json_is_read_as_it_was_meant(encoding, stdout):
    said = stdout(encoding)
    values = {"name": "✓ größer", "file": "W\udcff.npz", "key": "😀"}
    emit_json("trial", values)
    assert json.loads(said()) == {"schema": "rtserve.trial/1"} | values


def test_ticks_do_not_end_a_command(stdout):
    said = stdout("iso-8859-1")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 0
    assert "  + numpy" in said()

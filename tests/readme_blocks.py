"""The console blocks of README.md, run for real: ``--write`` pastes what they print, the test compares.

A block begins with ```` ```console ````. A line ``$ command`` is run by bash (lines that begin with ``> `` go on with
it), the lines below are what it printed. All blocks run in one folder, in order, with the rtserve beside this Python.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from readme_masks import mask

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PASSING = re.compile(r"about \d+ s left|: \d+ s so far|^bash: warning: setlocale: ")
"""Progress, which comes and goes with the machine's speed; what bash says where the user's locale was not generated."""


def commands(block: str) -> list[tuple[str, str]]:
    """Return the commands of a block as they stand in it, each with what the block says it prints."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(([line], []))
        elif (line == ">" or line.startswith("> ")) and not found[-1][1]:
            found[-1][0].append(line)
        else:
            found[-1][1].append(line)
    return [("\n".join(typed), "\n".join(printed)) for typed, printed in found]


def run(typed: str, folder: Path, *first: Path) -> str:
    """Run one command, its PATH led by `first`, and return what a terminal would show, but for passing lines."""
    script = "\n".join(line[2:] for line in typed.splitlines())
    path = os.pathsep.join([*map(str, first), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "110"}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], cwd=folder, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script}\nended with {done.returncode}:\n{done.stdout}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines() if not PASSING.search(line))


def regenerate(text: str, folder: Path, *first: Path) -> str:
    """Return `text` with every block's output replaced by what its commands print now; `first` leads their PATH."""

    def block(match: re.Match[str]) -> str:
        shown = []
        for typed, _ in commands(match.group(1)):
            shown += [typed, *([printed] if (printed := run(typed, folder, *first)) else [])]
        return "```console\n" + "\n".join(shown) + "\n```"

    return BLOCK.sub(block, text)


def comparable(text: str) -> str:
    """Return `text` with what its blocks print masked; what is typed, and the prose, stay word for word."""

    def block(match: re.Match[str]) -> str:
        return "\n".join(part for typed, printed in commands(match.group(1)) for part in (typed, mask(printed)))

    return BLOCK.sub(block, text)


def main() -> None:
    """Compare README.md with what its commands print, or write that into it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="paste what the commands print into README.md")
    write = parser.parse_args().write
    text = README.read_text()
    with tempfile.TemporaryDirectory() as folder:
        fresh = regenerate(text, Path(folder))
    if write:
        README.write_text(fresh)
    elif comparable(fresh) != comparable(text):
        raise SystemExit("README.md shows what is no longer printed; run `make readme` and look at the difference")


if __name__ == "__main__":
    main()

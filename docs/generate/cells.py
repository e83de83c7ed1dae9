"""A tutorial is a script of cells: prose in comments, code below it. Here it is read, run whole, and what cells print kept.

A cell begins with ``# %%``. The comment that follows is Markdown, the rest of the cell is code. What stands in front of the
first cell (a docstring, or in a shell's script a comment) is the page's title and its first words; a line ``needs: module
NAME`` or ``needs: command NAME`` there names what the script cannot do without. A script is run in an empty folder, but for
a link to ``exporters/``, as one program from the first cell to the last; one that fails fails the build.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cell", "Tutorial", "TutorialError", "read", "run"]

MARK = "%%rtserve-cell-ends%%"
PASSING = re.compile(r"about \d+ s left|: \d+ s so far|^bash: warning: setlocale: ")
"""Progress, which comes and goes with the machine's speed; what bash says where the user's locale was not generated."""
LIMIT_S = 300


class TutorialError(Exception):
    """A script that is not a tutorial, or that failed."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Prose in Markdown, and the code below it."""

    prose: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Tutorial:
    """A script as it is read.

    Parameters
    ----------
    path : Path
        The script: ``.py`` or ``.sh``.
    title, opening : str
        The page's title, and what stands under it, in Markdown.
    needs : tuple of (str, str)
        ``("module", NAME)`` or ``("command", NAME)``.
    cells : tuple of Cell
        In order.
    """

    path: Path
    title: str
    opening: str
    needs: tuple[tuple[str, str], ...]
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The page's name."""
        return self.path.stem

    @property
    def language(self) -> str:
        """The language of its code."""
        return "python" if self.path.suffix == ".py" else "sh"

    @property
    def missing(self) -> str:
        """What it needs and this machine lacks, as a reason why it is not run; empty where all is there."""
        lacking = {"module": "{} is not installed", "command": "there is no {} here"}
        there = {"module": lambda name: importlib.util.find_spec(name), "command": shutil.which}
        return "; ".join(lacking[kind].format(name) for kind, name in self.needs if not there[kind](name))


def read(path: Path) -> Tutorial:
    """Read a script.

    Raises
    ------
    TutorialError
        Where it has no title or no cell.
    """
    first, *rest = re.split(r"(?m)^# %%.*\n", path.read_text("utf-8"))
    opening = _docstring(first, path) if path.suffix == ".py" else _comment(re.sub(r"\A#!.*\n", "", first))[0]
    needs = tuple(re.findall(r"(?m)^needs: (module|command) (\S+)$", opening))
    opening = re.sub(r"(?m)^needs: .*\n?", "", opening)
    title, _, opening = opening.strip().partition("\n")
    if not title or not rest:
        raise TutorialError(f"{path}: no title or no cell; begin with a title, and each cell with `# %%`")
    cells = tuple(Cell(prose=prose, code=code) for prose, code in map(_comment, rest))
    return Tutorial(path=path, title=title.rstrip("."), opening=opening.strip(), needs=needs, cells=cells)


def _docstring(text: str, path: Path) -> str:
    found = ast.get_docstring(ast.parse(text))
    if found is None:
        raise TutorialError(f"{path} has no docstring; its first line is the page's title")
    return found


def _comment(text: str) -> tuple[str, str]:
    """Return the comment that a text begins with, and the code behind it."""
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    prose = "\n".join(re.sub(r"\A# ?", "", line) for line in lines[:end])
    return prose.strip(), "\n".join(lines[end:]).strip("\n")


def run(tutorial: Tutorial, root: Path, first: Path | None = None) -> list[str]:
    """Run a tutorial from its first cell to its last, and return what each printed.

    Parameters
    ----------
    tutorial : Tutorial
        The script.
    root : Path
        The repository.
    first : Path, optional
        A folder for the front of PATH.

    Raises
    ------
    TutorialError
        Where the script fails; the message holds the cell and what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
        work = Path(folder) / "work"
        work.mkdir()
        (work / "exporters").symlink_to(root / "exporters")
        command = [sys.executable, "-m", __name__, str(tutorial.path)]
        if tutorial.language == "sh":
            script = Path(folder) / "script"
            script.write_text(_joined(tutorial), "utf-8")
            command = ["bash", "-e", "-o", "pipefail", str(script)]
        done = subprocess.run(
            command, cwd=work, env=_environment(root, first), text=True, check=False, timeout=LIMIT_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    printed = [_shown(part) for part in done.stdout.split(f"{MARK}\n")]
    if done.returncode or len(printed) != len(tutorial.cells) + 1:
        code = tutorial.cells[min(len(printed), len(tutorial.cells)) - 1].code
        raise TutorialError(f"{tutorial.path} ended with {done.returncode} in\n{code}\nwhich printed\n{printed[-1]}")
    return printed[:-1]


def _joined(tutorial: Tutorial) -> str:
    """Return a shell's script that says where each cell ends."""
    return "\n".join(f"{cell.code}\necho '{MARK}'" for cell in tutorial.cells) + "\n"


def _environment(root: Path, first: Path | None) -> dict[str, str]:
    path = os.pathsep.join([*map(str, [first] if first else []), str(Path(sys.executable).parent), os.environ["PATH"]])
    ours = {"PATH": path, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTHONUTF8": "1"}
    return os.environ | ours


def _shown(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if not PASSING.search(line)).strip("\n")


def _run_python(path: Path) -> None:
    """Run a script's cells in this process; a last line that is an expression is printed, as in a notebook."""
    from rtserve.graphs.pure_torchaudio import allow_pure_torchaudio

    allow_pure_torchaudio()  # beside a CPU build of torch, torchaudio's compiled half cannot be loaded
    space: dict[str, object] = {"__name__": "__main__"}
    for cell in read(path).cells:
        tree = ast.parse(cell.code)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), space)
        if isinstance(last, ast.Expr):
            found = eval(compile(ast.Expression(last.value), path.name, "eval"), space)
            if found is not None:
                print(found)
        print(MARK, flush=True)


if __name__ == "__main__":
    _run_python(Path(sys.argv[1]))

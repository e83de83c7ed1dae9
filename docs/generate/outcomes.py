"""How a command ends: its exit codes, and the errors behind them."""

from __future__ import annotations

import inspect
import re

from docs.generate.markdown import code, fence, plain, table
from rtserve import errors
from rtserve.cli import main

__all__ = ["exit_codes", "outcomes_page"]


def exit_codes() -> dict[int, str]:
    """Return what each exit code means, as the command line's own module says it."""
    text = " ".join(inspect.cleandoc(main.__doc__ or "").split())
    listed = re.search(r"Exit codes: (.*?)\.(?:\s|$)", text)
    if listed is None:
        raise LookupError("rtserve.cli.main does not say its exit codes")
    pairs = (part.strip().partition(" ") for part in listed[1].split(";"))
    return {int(number): meaning for number, _, meaning in pairs}


def outcomes_page() -> str:
    """Return the page of exit codes and errors."""
    kinds = [getattr(errors, name) for name in errors.__all__]
    rows = [
        (str(number), plain(meaning), ", ".join(code(kind.__name__) for kind in kinds if kind.exit_code == number))
        for number, meaning in exit_codes().items()
    ]
    tree = inspect.cleandoc(errors.__doc__ or "").partition("::\n\n")[2].partition("\n\nA message")
    return "\n".join(
        [
            "# Exit codes and errors\n",
            table(("code", "meaning", "errors in Python"), rows),
            'A "no" is data with a reason, never an exception: a view refused, a pass not applied, a rule that failed or '
            "was skipped. An error is for input that cannot be used.\n",
            fence(inspect.cleandoc(tree[0])),
            plain(f"A message{tree[2]}") + "\n",
        ]
    )

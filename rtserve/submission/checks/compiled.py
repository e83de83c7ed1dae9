"""RT4, second part: compiled code in a zip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rtserve.errors import RtserveError
from rtserve.submission.checks.identity import challenges_of
from rtserve.submission.checks.rule import WARN, Case, Finding, Rule
from rtserve.submission.compiled import NATIVE, compiled_findings, forbidding

__all__ = ["RULES"]

MAGIC = (b"\x7fELF", b"MZ\x90\x00", b"\xcf\xfa\xed\xfe")
"""How programs and libraries of Linux, Windows and macOS begin."""


class CompiledCode(Rule):
    """Compiled code in the zip is that of its graph, runs here, and the contest allows it."""

    code = "RT406"
    requires = ("RT004",)
    cause = "The code was exchanged or belongs to another graph, cannot be loaded here, or the contest takes none."
    cure = 'Build the zip again from the recipe; runtime = "torch" puts no code into it.'

    def check(self, case: Case) -> Iterator[Finding]:
        folder, clause = case.unpacked.folder, forbidding(case.profile)
        code = [name for name in case.unpacked.files() if folder is not None and is_code(folder / name)]
        if clause is not None and code:
            yield Finding(
                message=f"{code[0]} is compiled code; {case.profile.name}: {clause.text} ({clause.source})",
                where=code[0],
            )
        native = {key: entry for key, entry in challenges_of(case).items() if entry.get("runtime") == "native"}
        for key in native:
            yield from self._judge(case, key)

    def _judge(self, case: Case, key: str) -> Iterator[Finding]:
        from rtserve.graphs.graph import Graph

        folder, entry = case.unpacked.folder, challenges_of(case)[key]
        name = str(entry.get("graph", ""))
        if folder is None or name not in case.unpacked.names:
            return  # RT402 says so
        stem = name.removesuffix(".onnx")
        files = {
            file: (folder / file).read_bytes() for ending in NATIVE if (folder / (file := stem + ending)).is_file()
        }
        try:
            found = list(compiled_findings(entry, files, Graph.load(folder / name), again=False))
        except (RtserveError, ValueError, KeyError, TypeError) as error:
            found = [f"{stem}{NATIVE[2]}: cannot be read ({getattr(error, 'message', error)})"]
        for text in found:
            yield Finding(message=text, where=text.partition(":")[0], challenge=key)
        route = case.drive.route_of(key) if case.drive is not None else ""
        if route and not route.startswith("native") and not found:
            yield Finding(message=f"its code did not answer here: it ran by {route}", challenge=key, severity=WARN)


def is_code(path: Path) -> bool:
    """Whether a file is a program or a library of machine code."""
    with path.open("rb") as file:
        return file.read(4) in MAGIC


RULES: tuple[type[Rule], ...] = (CompiledCode,)

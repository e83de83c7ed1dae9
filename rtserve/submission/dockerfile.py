"""`read_dockerfile`: what the last stage of a Dockerfile runs, where, and which files of the zip it puts where.

Enough of the language to run the command without docker: FROM, WORKDIR, ENV, ARG, COPY and ADD of files that lie beside it,
ENTRYPOINT, CMD, VOLUME. What RUN installs is not there; the environment of a check stands for it. What cannot be followed is
said, never guessed (reference: docs.docker.com, "Dockerfile reference").
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Copy", "Image", "read_dockerfile"]

_SHELL = ("/bin/sh", "-c")
_REMOTE = re.compile(r"(https?|git|ftp)(:|@)")


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Files of the zip (patterns) and where they go: an absolute path, ended by a slash where it is a folder."""

    sources: tuple[str, ...]
    target: str
    line: int


@dataclass(kw_only=True)
class Image:
    """What a Dockerfile makes, as far as it was read.

    Parameters
    ----------
    workdir : str
        Where the command runs.
    environment : dict of str to str
        What ENV sets.
    copies : list of Copy
        In order.
    entrypoint, command : tuple of str or None
        As they are executed; None where there is none. A shell's form begins with the shell.
    volumes : list of str
        What VOLUME names.
    unknown : list of str
        What could not be followed, with its line.
    """

    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    volumes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    shell: tuple[str, ...] = _SHELL

    @property
    def runs(self) -> tuple[str, ...]:
        """What is executed: an entry point of a shell's form takes no command."""
        entry, command = self.entrypoint, self.command or ()
        if entry is None:
            return command
        return entry if entry[: len(self.shell)] == self.shell else (*entry, *command)


def read_dockerfile(text: str) -> Image:
    """Return what the last stage of a Dockerfile makes."""
    image = Image()
    for line, word, rest in _instructions(text):
        if word == "FROM":
            image = Image(arguments=image.arguments)
        else:
            _follow(image, word, rest, line)
    return image


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, instruction, what stands behind it), continued lines joined and comments left out."""
    begun, held = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        begun = begun if held else number
        if line.rstrip().endswith("\\"):
            held += line.rstrip()[:-1] + " "
            continue
        word, _, rest = (held + line).strip().partition(" ")
        held = ""
        yield begun, word.upper(), rest.strip()


def _follow(image: Image, word: str, rest: str, line: int) -> None:
    if "<<" in rest and word in ("RUN", "COPY", "ADD"):
        image.unknown.append(f"line {line}: {word} with a here-document")
    elif word in ("COPY", "ADD"):
        _copied(image, word, rest, line)
    elif word in ("ENV", "ARG"):
        _assigned(image, word, rest)
    elif word == "WORKDIR":
        image.workdir = posixpath.normpath(posixpath.join(image.workdir, _filled(image, rest.strip("\"'"))))
    elif word == "VOLUME":
        image.volumes += [_filled(image, one).rstrip("/") for one in _listed(rest) or rest.split()]
    elif word in ("CMD", "ENTRYPOINT", "SHELL"):
        found = tuple(_listed(rest) or (*image.shell, rest))
        setattr(image, {"CMD": "command", "ENTRYPOINT": "entrypoint", "SHELL": "shell"}[word], found)


def _copied(image: Image, word: str, rest: str, line: int) -> None:
    parts = _listed(rest) or shlex.split(rest)
    flags = [part for part in parts if part.startswith("--")]
    names = [_filled(image, part) for part in parts if not part.startswith("--")]
    if any(flag.startswith("--from") for flag in flags):
        image.unknown.append(f"line {line}: {word} {' '.join(flags)} takes files of another image")
    elif any(_REMOTE.match(name) for name in names[:-1]):
        image.unknown.append(f"line {line}: {word} fetches {names[0]}")
    elif len(names) < 2:
        image.unknown.append(f"line {line}: {word} {rest}")
    else:
        folder = names[-1].endswith("/") or names[-1] in (".", "..") or len(names) > 2
        target = posixpath.normpath(posixpath.join(image.workdir, names[-1]))
        image.copies.append(Copy(sources=tuple(names[:-1]), target=target + "/" * folder, line=line))


def _assigned(image: Image, word: str, rest: str) -> None:
    pairs = image.environment if word == "ENV" else image.arguments
    if word == "ENV" and not re.match(r"\S+?=", rest):  # the old form: ENV NAME all that follows
        name, _, value = rest.partition(" ")
        pairs[name] = _filled(image, value.strip())
        return
    for part in _split(rest):
        name, _, value = part.partition("=")
        pairs[name] = _filled(image, value)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _listed(text: str) -> list[str]:
    """Return a JSON list of texts; empty where it is none."""
    try:
        found = json.loads(text) if text.startswith("[") else []
    except ValueError:
        return []
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else []


def _filled(image: Image, text: str) -> str:
    """Return a text with the variables that are known in their places: ``$A``, ``${A}``, ``${A:-else}``."""

    def value(match: re.Match[str]) -> str:
        name, otherwise = match[1] or match[3], match[2]
        found = image.environment.get(name, image.arguments.get(name, ""))
        return found or (otherwise[2:] if otherwise else "")

    return re.sub(r"\$\{(\w+)(:-[^}]*)?\}|\$(\w+)", value, text)

"""`replay`: everything that a statement says of a zip is derived again from the zip, and every score is computed again.

A digest that differs ends it, with both values, before anything of the zip is run; a score that is not the stated one
within `TOLERANCE` is a verdict.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rtserve.errors import BundleError, InputError, NotComparableError
from rtserve.files import readable_file, sha256_file
from rtserve.measure.signature import Signature
from rtserve.submission.attestation.attest import STATEMENT, scored
from rtserve.submission.attestation.described import described, differences, require_whole, subjects
from rtserve.submission.attestation.signing import SUFFIX, verify_signature
from rtserve.submission.attestation.statement import HINT, Measured, Scoring, Statement

__all__ = ["TOLERANCE", "Recomputed", "Replay", "replay"]

TOLERANCE = 1e-6
"""How far a recomputed score may be from the stated one."""


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """One score, stated and recomputed.

    Parameters
    ----------
    signature : str
        What can change it.
    stated, found : float
        The two numbers.
    """

    signature: str
    stated: float
    found: float

    @property
    def passed(self) -> bool:
        """Whether they are one number within `TOLERANCE`."""
        return abs(self.stated - self.found) <= TOLERANCE

    def line(self) -> str:
        """Return what a person reads."""
        off = f"differ by {abs(self.stated - self.found):.1e}, {TOLERANCE:.0e} is allowed"
        mark = "✓" if self.passed else "✗"
        return f"  {mark} {self.signature}: stated {self.stated:.9g}, recomputed {self.found:.9g}; {off}"


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The verdict on a statement.

    Parameters
    ----------
    path, sha256 : Path, str
        The bundle or statement, and its digest.
    subject : tuple of dict
        What it is about, as it stands in it; every digest was recomputed.
    scores : tuple of Recomputed
        Every score.
    signed : bool or None
        Whether its signature was verified; None where there is none and nobody asked.
    versions : dict of str to (str, str)
        Packages of another version than it was measured with: that one, and the one here.
    """

    path: Path
    sha256: str
    subject: tuple[dict[str, Any], ...]
    scores: tuple[Recomputed, ...]
    signed: bool | None
    versions: dict[str, tuple[str, str]]

    @property
    def passed(self) -> bool:
        """Whether every score was reproduced."""
        return all(score.passed for score in self.scores)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {
            "bundle": str(self.path),
            "sha256": self.sha256,
            "passed": self.passed,
            "signature_verified": self.signed,
            "tolerance": TOLERANCE,
            "subject": list(self.subject),
            "scores": [
                {"signature": s.signature, "stated": s.stated, "recomputed": s.found, "passed": s.passed}
                for s in self.scores
            ],
            "versions": {name: {"stated": old, "here": new} for name, (old, new) in self.versions.items()},
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        found = [f"{self.path}  sha256 {self.sha256}"]
        if self.signed is not None:
            found.append("  ✓ signature" if self.signed else "  - signature: not verified (--verify-key PUBLIC.pem)")
        found += [f"  ✓ {one['name']}  sha256 {one['digest']['sha256']}" for one in self.subject]
        found += [score.line() for score in self.scores]
        found += [f"  measured with {name} {old}, here is {new}" for name, (old, new) in self.versions.items()]
        return [*found, "reproduced" if self.passed else "NOT reproduced"]


def replay(
    path: str | Path,
    *,
    data: Sequence[str | Path] = (),
    verify_key: str | Path | None = None,
    signature: str | Path | None = None,
) -> Replay:
    """Recompute everything that a bundle states.

    Parameters
    ----------
    path : path
        A bundle of `attest`; or a statement alone, with the zip that it names beside it.
    data : sequence of path
        Where the window sets are, if not where the statement says; found by digest.
    verify_key : path, optional
        Public key (PEM) of who signed it: the signature is verified before anything else is read.
    signature : path, optional
        The signature; by default ``PATH.sig``.

    Returns
    -------
    Replay
        Its `passed` says whether every score was reproduced within `TOLERANCE`.

    Raises
    ------
    InputError
        Where it is no bundle or states no score, or the zip or windows are not there.
    BundleError
        Where a digest, or what is said of the zip, is not what was recomputed; or the signature is of something else.
    NotComparableError
        Where the recomputed score is another measure than the stated one.
    EnvironmentMissingError
        Where a signature is to be verified and model-signing is not installed.
    """
    path = readable_file(path, "bundle")
    beside = path.with_name(path.name + SUFFIX) if signature is None else Path(signature)
    if verify_key is not None:
        verify_signature(path, beside, verify_key)
    elif signature is not None:
        raise InputError(f"signature {signature} needs the key of who signed", hint="--verify-key PUBLIC.pem")
    digest = sha256_file(path)
    with _opened(path) as (statement, zipped):
        _require_subject(statement, zipped)
        require_whole(zipped)
        for text in differences(statement.zip, described(zipped), "predicate.zip"):
            raise BundleError(text, hint=f"the statement is not about this zip: {HINT}")
        if not statement.scores:
            raise InputError(f"{path.name} states no score", hint="rtserve attest ZIP --data W.npz -o X.bundle")
        files = [_found(scoring, path.parent, data) for scoring in statement.scores]
        scores = [
            one for scoring, file in zip(statement.scores, files, strict=True) for one in _again(scoring, file, zipped)
        ]
    return Replay(
        path=path,
        sha256=digest,
        subject=statement.subject,
        scores=tuple(scores),
        signed=True if verify_key is not None else (False if beside.exists() else None),
        versions=dict(_other_versions(statement)),
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Statement, Path]]:
    """Give the statement, and the zip that it is about as a file under its own name."""
    from rtserve.submission.archive import read_zip

    with open(path, "rb") as handle:
        packed = handle.read(2) == b"PK"
    if not packed:
        statement = Statement.from_bytes(path.read_bytes(), name=path.name)
        yield statement, readable_file(path.parent / _zip_name(statement), "zip")
        return
    files = read_zip(path)
    if STATEMENT not in files:
        raise InputError(f"{path} holds no {STATEMENT}: it is no bundle", hint=HINT)
    statement = Statement.from_bytes(files.pop(STATEMENT), name=f"{path.name}:{STATEMENT}")
    name = _zip_name(statement)
    if set(files) != {name}:
        raise BundleError(
            f"{path.name} holds {', '.join(sorted(files)) or 'nothing'}, its subject is {name}", hint=HINT
        )
    with tempfile.TemporaryDirectory(prefix="rtserve-replay-") as folder:
        zipped = Path(folder) / name
        zipped.write_bytes(files[name])
        yield statement, zipped


def _zip_name(statement: Statement) -> str:
    name = str(statement.subject[0]["name"])
    if PurePosixPath(name).name != name or "\\" in name or name in ("", ".", ".."):
        raise InputError(f"the first subject is called {name!r}, which is no file's name", hint=HINT)
    return name


def _require_subject(statement: Statement, zipped: Path) -> None:
    """Compare the digests of the zip and of the graphs inside with those that are stated."""
    (whole, stated), *graphs = ((one["name"], one["digest"]["sha256"]) for one in statement.subject)
    if (own := sha256_file(zipped)) != stated:
        raise BundleError(
            f"{whole}: its sha256 is {own}, the statement says {stated}", hint="this zip was not attested"
        )
    inside = {one["name"]: one["digest"]["sha256"] for one in subjects(zipped)[1:]}
    for name, digest in graphs:
        if inside.get(name) != digest:
            found = f"its sha256 is {inside[name]}" if name in inside else "it is not in the zip"
            raise BundleError(
                f"{name}: {found}, the statement says {digest}", hint="the statement is about another graph"
            )
    if unsaid := sorted(inside.keys() - dict(graphs).keys()):
        raise BundleError(f"{unsaid[0]}: is a graph of the zip and no subject of the statement", hint=HINT)


def _found(scoring: Scoring, folder: Path, given: Sequence[str | Path]) -> Path:
    """Return the file of windows: the one given that has the digest, else the one where the statement says."""
    beside = folder / scoring.data
    files = [readable_file(file, "window set") for file in given] + ([beside] if beside.exists() else [])
    if not files:
        raise InputError(f"window set {beside} does not exist", hint="say where it is: --data W.npz")
    digests = {file: sha256_file(readable_file(file, "window set")) for file in files}
    for file, digest in digests.items():
        if digest == scoring.sha256:
            return file
    told = "; ".join(f"the sha256 of {file} is {digest}" for file, digest in digests.items())
    raise BundleError(
        f"{told}; of {scoring.data} the statement says {scoring.sha256}", hint="name the right one by --data"
    )


def _again(scoring: Scoring, file: Path, zipped: Path) -> Iterator[Recomputed]:
    """Score the zip again; what is measured has to be what was."""
    metrics = [one.metric for one in scoring.measured]
    found = scored(zipped, file, metrics=metrics, split=scoring.split, profile=scoring.profile, name=scoring.data)
    if found.windows_sha256 != scoring.windows_sha256:
        raise BundleError(
            f"the windows of {scoring.data} that are scored have sha256 {found.windows_sha256},"
            f" the statement says {scoring.windows_sha256}",
            hint="name the window set that was attested by --data",
        )
    for old, new in zip(scoring.measured, found.measured, strict=True):
        _require_same(old, new, scoring.data)
        yield Recomputed(signature=new.signature, stated=old.value, found=new.value)


def _require_same(old: Measured, new: Measured, data: str) -> None:
    if old.signature == new.signature:
        return
    differ = Signature.parse(old.signature).differences(Signature.parse(new.signature))
    raise NotComparableError(
        f"{old.metric} on {data}: stated is {old.signature}, recomputed {new.signature}"
        + (f" ({'; '.join(differ)})" if differ else ""),
        hint="two scores are one number only where their signatures are equal",
    )


def _other_versions(statement: Statement) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, old in statement.versions.items():
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = "none"
        if here != old:
            yield name, (old, here)

"""`attest`: a statement of in-toto about a zip and what it scores, and the bundle that holds both."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import check_writable, readable_file, sha256_bytes, sha256_file, write_bytes
from rtserve.submission.attestation.described import described, require_whole, subjects
from rtserve.submission.attestation.signing import SUFFIX, require_signing, sign
from rtserve.submission.attestation.statement import Measured, Scoring, Statement

__all__ = ["STATEMENT", "Attested", "attest", "scored"]

STATEMENT = "statement.json"
"""The statement's name in a bundle; the zip lies beside it under its own."""
STATEMENT_ALONE = ".json"
"""Suffix of an output that is to hold the statement alone."""
PACKAGES = ("rtserve", "numpy", "torch", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Attested:
    """What was written.

    Parameters
    ----------
    path, sha256 : Path, str
        The bundle, or the statement alone, and its digest.
    statement : Statement
        What it states.
    signature : Path or None
        The signature beside it.
    """

    path: Path
    sha256: str
    statement: Statement
    signature: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "output": str(self.path),
            "sha256": self.sha256,
            "signature": str(self.signature) if self.signature else None,
            "statement": self.statement.to_dict(),
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        found = [f"{self.path}  {self.path.stat().st_size:,} bytes, sha256 {self.sha256}"]
        found += [f"  subject {one['name']}  sha256 {one['digest']['sha256']}" for one in self.statement.subject]
        for scoring in self.statement.scores:
            found.append(f"  data {scoring.data}  sha256 {scoring.sha256}")
            found += [f"    {one.signature} = {one.value:.5g}" for one in scoring.measured]
        if not self.statement.scores:
            found.append("  no score: there is nothing to recompute (--data W.npz states one)")
        return found + ([f"  signed: {self.signature}"] if self.signature else [])


def attest(
    path: str | Path,
    *,
    data: Sequence[str | Path] = (),
    output: str | Path,
    metrics: Sequence[str] = (),
    split: str | None = None,
    profile: str | None = None,
    sign_key: str | Path | None = None,
    force: bool = False,
) -> Attested:
    """Write a statement of in-toto about a zip: its digest, the graphs inside, and what it scores.

    Parameters
    ----------
    path : path
        A zip that `rtserve build` wrote.
    data : sequence of path
        Window sets (.npz, .h5); the zip is scored on each, through its entry point, as the challenge whose target y is.
    output : path
        The bundle, which holds statement and zip; with the suffix ``.json`` the statement alone.
    metrics, split : sequence of str, str
        As `rtserve.measure.evaluate.evaluate` takes them.
    profile : str, optional
        Contest, with its challenge where the windows do not say what y is; by default what the zip's manifest names.
    sign_key : path, optional
        Elliptic private key (PEM): OpenSSF model-signing writes the signature beside the output, as OUTPUT.sig.
    force : bool
        Replace existing outputs.

    Raises
    ------
    InputError
        Where zip or windows cannot be read or do not fit each other, or the output may not be written.
    BundleError
        Where the zip is not what its manifest says.
    EnvironmentMissingError
        Where a signature is asked for and model-signing is not installed.
    """
    path, output = readable_file(path, "zip"), check_writable(output, force=force)
    if sign_key is not None:
        require_signing()
        check_writable(_signature(output), force=force)
    if path.name == STATEMENT:
        raise InputError(f"a zip cannot be called {STATEMENT}", hint="rename it")
    require_whole(path)
    scores = [
        scored(path, file, metrics=metrics, split=split, profile=profile, name=_from(output, file)) for file in data
    ]
    statement = Statement(
        subject=subjects(path),
        zip=described(path),
        scores=tuple(scores),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )
    content = _content(statement, path, output)
    signature = None if sign_key is None else sign(content, sign_key, name=output.name)
    write_bytes(output, content, force=force)
    if signature is not None:
        write_bytes(_signature(output), signature, force=force)
    beside = None if signature is None else _signature(output)
    return Attested(path=output, sha256=sha256_bytes(content), statement=statement, signature=beside)


def scored(
    path: Path,
    data: str | Path,
    *,
    name: str,
    metrics: Sequence[str] = (),
    split: str | None = None,
    profile: str | None = None,
) -> Scoring:
    """Score a zip on one window set, through its entry point in the sandbox; raises as `attest`."""
    from rtserve.measure.zipped import evaluate_zip
    from rtserve.signals.windows import load_windows
    from rtserve.submission.profile import name_parts, profile_names
    from rtserve.submission.ranking import contest_of, named_metrics
    from rtserve.submission.scoring import predict_zip

    contest, file = contest_of(path, profile), readable_file(data, "window set")
    if name_parts(contest)[0] not in profile_names():
        raise InputError(
            f"profile {contest} does not come with rtserve", hint="`rtserve profiles list` names those that do"
        )
    asked, digest = named_metrics(metrics, contest), sha256_file(file)
    predict = partial(predict_zip, profile=contest)
    found = evaluate_zip(path, load_windows(file), predict, metrics=asked, split=split, resamples=0)
    texts = asked or [score.signature.metric for score in found.scores]
    measured = [
        Measured(metric=text, value=float(score.value), signature=str(score.signature))
        for text, score in zip(texts, found.scores, strict=True)
    ]
    return Scoring(
        data=name, sha256=digest, windows_sha256=found.data_digest, profile=contest, split=split, measured=tuple(measured)
    )  # fmt: skip


def _signature(output: Path) -> Path:
    return output.with_name(output.name + SUFFIX)


def _from(output: Path, data: str | Path) -> str:
    """Return the path of a window set from the folder of the output."""
    return Path(os.path.relpath(Path(data).absolute(), output.absolute().parent)).as_posix()


def _content(statement: Statement, path: Path, output: Path) -> bytes:
    from rtserve.submission.archive import zip_bytes

    if output.suffix == STATEMENT_ALONE:
        return statement.to_bytes()
    return zip_bytes({STATEMENT: statement.to_bytes(), path.name: path.read_bytes()})

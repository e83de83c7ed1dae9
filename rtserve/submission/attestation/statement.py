"""The statement of in-toto (Statement v1) that a zip is attested by: how it is written, and read without believing it.

``subject`` names the zip and the graphs inside with their digests, ``predicateType`` is `PREDICATE_TYPE`, and the predicate
has three parts: ``zip``, what follows from the zip alone; ``scores``, what was measured, each with all that is needed to
measure it again; ``versions``, what it was measured with. The first two are recomputed by `rtserve replay`; as the
specification of in-toto wants it, fields that are not known are ignored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rtserve.errors import InputError

__all__ = ["PREDICATE_TYPE", "STATEMENT_TYPE", "Measured", "Scoring", "Statement", "descriptor", "sha256_of"]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:x-rtserve:attestation:score/v1"
"""The kind of predicate; docs/attest.md is its definition. rtserve has no address of its own that a URL could lead to."""
HINT = "write one with `rtserve attest`"
LARGEST = 16 << 20
"""Bytes of a statement that is read."""
LONGEST = 1000
"""Letters of a path."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One number of a scoring.

    Parameters
    ----------
    metric : str
        As `rtserve.measure.metrics.parse_metric` reads it.
    value : float
        The score.
    signature : str
        What can change it, see `rtserve.measure.signature.Signature`.
    """

    metric: str
    value: float
    signature: str


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What a zip scores on one window set, with all that it takes to score it again.

    Parameters
    ----------
    data : str
        The file of windows: its path from the folder of the statement, with ``/``.
    sha256 : str
        Digest of that file's bytes.
    windows_sha256 : str
        Digest of exactly the windows that were scored (`rtserve.signals.windows.WindowSet.digest`).
    profile : str
        The contest, with its challenge where one was named.
    split : str or None
        Which part of the file was asked for.
    measured : tuple of Measured
        The scores.
    """

    data: str
    sha256: str
    windows_sha256: str
    profile: str
    split: str | None
    measured: tuple[Measured, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as it stands in the predicate."""
        return {
            "data": descriptor(self.data, self.sha256),
            "windowsSha256": self.windows_sha256,
            "profile": self.profile,
            "split": self.split,
            "measured": [{"metric": m.metric, "value": m.value, "signature": m.signature} for m in self.measured],
        }


@dataclass(frozen=True, kw_only=True)
class Statement:
    """An in-toto statement about a zip.

    Parameters
    ----------
    subject : tuple of dict
        ResourceDescriptors: the zip first, then the graphs inside.
    zip : dict
        What follows from the zip alone.
    scores : tuple of Scoring
        What was measured.
    versions : dict of str to str
        Of the packages that it was measured with.
    """

    subject: tuple[dict[str, Any], ...]
    zip: dict[str, Any]
    scores: tuple[Scoring, ...] = ()
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the statement as JSON values."""
        predicate = {"zip": self.zip, "scores": [one.to_dict() for one in self.scores], "versions": dict(self.versions)}
        return {
            "_type": STATEMENT_TYPE,
            "subject": list(self.subject),
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }

    def to_bytes(self) -> bytes:
        """Return the file: equal statements are equal bytes."""
        text = json.dumps(self.to_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str) -> Statement:
        """Read a statement; `name` is what errors call the file.

        Raises
        ------
        InputError
            Where it is no JSON, no statement of in-toto, about something else, or lacks what a replay needs.
        """
        if len(data) > LARGEST:
            raise InputError(f"{name} has {len(data):,} bytes, at most {LARGEST:,} are read", hint=HINT)
        try:
            document = json.loads(data, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name} is not JSON ({' '.join(str(error).split())})", hint=HINT) from None
        whole = _Part(document, name)
        for key, known in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
            if (told := whole.text(key)) != known:
                raise InputError(f"{name} has {key} {told!r}, this version reads {known!r}", hint=HINT)
        predicate = whole.part("predicate")
        subject = tuple(descriptor(_name(one), sha256_of(one)) for one in whole.parts("subject"))
        if not subject:
            raise InputError(f"{name} has no subject", hint=HINT)
        return cls(
            subject=subject,
            zip=dict(predicate.part("zip").values),
            scores=tuple(_scoring(one) for one in predicate.parts("scores")),
            versions={key: str(value) for key, value in predicate.part("versions").values.items()},
        )


def descriptor(name: str, sha256: str) -> dict[str, Any]:
    """Return a ResourceDescriptor of in-toto."""
    return {"name": name, "digest": {"sha256": sha256}}


@dataclass(frozen=True)
class _Part:
    """An object of a stranger's JSON: what is asked of it is there and of its type, or is named."""

    values: Any
    where: str

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise InputError(f"{self.where} is a {type(self.values).__name__}, not an object", hint=HINT)

    def _get(self, key: str, *kinds: type) -> Any:
        value = self.values.get(key)
        if not isinstance(value, kinds) or isinstance(value, bool):
            found = f"{type(value).__name__} {value!r}"[:60] if key in self.values else "absent"
            raise InputError(f"{self.where}: {key} is {found}, not {kinds[0].__name__}", hint=HINT)
        return value

    def text(self, key: str) -> str:
        """Return a text."""
        return str(self._get(key, str))

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = float(self._get(key, float, int))
        if not math.isfinite(value):
            raise InputError(f"{self.where}: {key} is {value}, not finite", hint=HINT)
        return value

    def part(self, key: str) -> _Part:
        """Return an object."""
        return _Part(self._get(key, dict), f"{self.where}: {key}")

    def parts(self, key: str) -> Sequence[_Part]:
        """Return the objects of an array."""
        return [_Part(one, f"{self.where}: {key}[{k}]") for k, one in enumerate(self._get(key, list))]


def sha256_of(part: _Part) -> str:
    """Return the SHA-256 of a ResourceDescriptor; refuse one without."""
    return _hex(part.part("digest").text("sha256"), f"{part.where}: digest")


def _hex(text: str, where: str) -> str:
    if not _SHA256.fullmatch(text):
        raise InputError(f"{where}: {text[:70]!r} is no SHA-256", hint="64 hexadecimal digits in lower case")
    return text


def _name(part: _Part) -> str:
    """Return the name of a ResourceDescriptor; refuse what no system takes for a path."""
    name = part.text("name")
    if len(name) > LONGEST or any(len(one.encode("utf-8", "surrogatepass")) > 255 for one in name.split("/")):
        raise InputError(f"{part.where}: name has {len(name)} letters, more than a path may have", hint=HINT)
    return name


def _scoring(part: _Part) -> Scoring:
    data = part.part("data")
    name = _name(data)
    if PurePosixPath(name).is_absolute() or "\\" in name or not name:
        raise InputError(f"{data.where}: {name!r} is no path from the statement's folder", hint=HINT)
    measured = tuple(
        Measured(metric=one.text("metric"), value=one.number("value"), signature=one.text("signature"))
        for one in part.parts("measured")
    )
    if not measured:
        raise InputError(f"{part.where}: measured is empty", hint=HINT)
    return Scoring(
        data=name,
        sha256=sha256_of(data),
        windows_sha256=_hex(part.text("windowsSha256"), f"{part.where}: windowsSha256"),
        profile=part.text("profile"),
        split=None if part.values.get("split") is None else part.text("split"),
        measured=measured,
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of pairs; a key that stands twice would mean one thing here and another elsewhere."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice in one object")
        found[key] = value
    return found

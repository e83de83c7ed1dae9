"""What a terminal's encoding cannot show is shown plainly: a check that took minutes must not end over its tick mark."""

from __future__ import annotations

import codecs
import io
import sys

__all__ = ["speak_plainly"]

PLAIN = {"✓": "+", "✗": "x", "–": "-", "μ": "u"}
"""Signs that we print and an older locale (ISO-8859-1) lacks; any other becomes its number, as in ``\\u0151``."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded; a codec calls this with where it stands."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs), error.end


def speak_plainly() -> None:
    """Let stdout take every text, whatever its encoding; stderr does by itself."""
    codecs.register_error("rtserve.plain", _plain)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="rtserve.plain")

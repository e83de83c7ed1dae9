"""Events from the sandbox to the checker: signed JSON lines, so that printed text is never taken for a result."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["Channel", "describe_error"]

TEXT_LIMIT = 6000


class Channel:
    """Writes events to a pipe.

    Parameters
    ----------
    fd : int
        The pipe's write end.
    key : bytes
        Signs every line together with its running number.
    """

    def __init__(self, fd: int, key: bytes) -> None:
        count = 0
        owner = os.getpid()
        start = time.perf_counter()

        def write(event: dict[str, Any]) -> None:
            nonlocal count
            if os.getpid() != owner:
                return
            text = json.dumps({"n": count, "t": round(time.perf_counter() - start, 4)} | event, default=str)
            count += 1
            mark = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
            data = f"{mark} {text}\n".encode()
            while data:
                data = data[os.write(fd, data) :]

        self._write: Callable[[dict[str, Any]], None] = write
        self.challenge = ""

    def emit(self, stage: str, **data: Any) -> None:
        """Send one event."""
        self._write({"stage": stage, "challenge": self.challenge} | data)

    def attempt(self, stage: str, folder: str, action: Callable[[], dict[str, Any] | None]) -> bool:
        """Run `action`, send what it returns or what it raised, and say whether it ended well."""
        self.emit("begin", what=stage)
        try:
            data = action() or {}
        except BaseException as error:  # a submission may raise SystemExit or worse; that is a result too
            self.emit(stage, ok=False, error=describe_error(error, folder))
            return False
        self.emit(stage, **({"ok": True} | data))
        return True


def describe_error(error: BaseException, folder: str) -> dict[str, Any]:
    """Return an exception as data: its type, its text, the author's own lines, and the file that raised it.

    Parameters
    ----------
    error : BaseException
        What was raised.
    folder : str
        The submission's folder; frames in it are the author's.
    """
    frames = traceback.extract_tb(error.__traceback__)
    harness = os.path.dirname(os.path.abspath(__file__))
    own = [
        {"file": os.path.relpath(frame.filename, folder), "line": frame.lineno, "name": frame.name, "code": frame.line}
        for frame in frames
        if os.path.abspath(frame.filename).startswith(os.path.join(folder, ""))
    ]
    outside = [frame.filename for frame in frames if not frame.filename.startswith(harness)]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return {
        "type": type(error).__name__,
        "text": _text(error),
        "frames": own,
        "raised_in": outside[-1] if outside else "",
        "module": getattr(error, "name", None) if isinstance(error, ImportError) else None,
        "path": str(error.filename) if isinstance(error, OSError) and error.filename else None,
        "line": error.lineno if isinstance(error, SyntaxError) else None,
        "cause": {"type": type(cause).__name__, "text": _text(cause)[:1000]} if cause is not None else None,
    }


def _text(error: BaseException) -> str:
    try:
        return str(error)[:TEXT_LIMIT]
    except Exception:  # an exception whose own text fails
        return "(no text)"

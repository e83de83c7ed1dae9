"""A command's ``sitecustomize``: every Python that it starts writes down whom it asks for over the network."""

from __future__ import annotations

import os
import sys
from typing import Any

_ASKING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_FILE = os.environ.get("RTSERVE_ASKED", "")


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event not in _ASKING:
        return
    whom = args[1] if event in ("socket.connect", "socket.sendto") else args[:2]
    if isinstance(whom, (str, bytes)):  # a socket of the file system
        return
    text = ":".join(str(part) for part in tuple(whom)[:2] if part is not None)
    with open(_FILE, "a", encoding="utf-8", errors="replace") as handle:
        handle.write(f"{text}\n")


if _FILE:
    sys.addaudithook(_hook)

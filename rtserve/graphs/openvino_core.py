"""OpenVINO's Core: one for a process, and for as long as it lives.

OpenVINO's CPU plugin gives the thread that loads it another stack for signals (`sigaltstack`, for processors with AMX),
and frees that memory when the last Core and compiled graph are gone: from whichever thread that happens, so that the
first one is left with a stack that is no more. The next signal, a Ctrl-C or the end of a child, then ends the process
without a word (seen with OpenVINO 2026.4). A Core that stays keeps the plugin, and the stack with it.
"""

from __future__ import annotations

import functools
from typing import Any

from rtserve.extras import extra_module

__all__ = ["openvino_core"]


@functools.cache
def openvino_core() -> Any:
    """Return the `openvino.Core` of this process.

    Raises
    ------
    EnvironmentMissingError
        Where OpenVINO is not installed.
    """
    return extra_module("openvino", title="OpenVINO", extra="openvino").Core()

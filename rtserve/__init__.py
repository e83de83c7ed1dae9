"""rtserve: trained EEG networks to exact, fast ONNX graphs and to submissions that are what was measured.

The Python API is the verbs of the command line. They are imported on first use, so that ``import rtserve`` is cheap::

    import rtserve
    graph = rtserve.export("seed42.pth", exporter="exporters/compact_rt.py")
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0.dev0"

_VERBS = {
    "export": "rtserve.graphs.export",
    "fuse": "rtserve.fusion.fuse",
    "evaluate": "rtserve.measure.evaluate",
    "bench": "rtserve.measure.bench",
    "build": "rtserve.submission.bundle",
    "check": "rtserve.submission.validate",
    "verify": "rtserve.submission.custody",
}

__all__ = ["__version__", *sorted(_VERBS)]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'rtserve' has no attribute {name!r}; the verbs are {', '.join(sorted(_VERBS))}")

"""rtserve: trained EEG networks to exact, fast ONNX graphs and to submissions that are what was measured.

The Python API is the verbs of the command line, and what they take and give. All of it is imported on first use, so that
``import rtserve`` is cheap::

    import rtserve
    graph = rtserve.export(module, example, unit="uV", sfreq=250)
    y = rtserve.predict(graph, X, unit="uV")
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0.dev0"

_PLACES = {
    "Graph": "rtserve.graphs.graph:Graph",
    "InputSpec": "rtserve.spec:InputSpec",
    "OutputSpec": "rtserve.spec:OutputSpec",
    "RtserveClassifier": "rtserve.measure.estimators:RtserveClassifier",
    "RtserveRegressor": "rtserve.measure.estimators:RtserveRegressor",
    "RtserveError": "rtserve.errors:RtserveError",
    "WindowSet": "rtserve.signals.windows:WindowSet",
    "attest": "rtserve.submission.attestation.attest:attest",
    "bench": "rtserve.measure.bench:bench",
    "build": "rtserve.submission.bundle:build",
    "calibrate": "rtserve.measure.calibrate:calibrate",
    "check": "rtserve.submission.validate:check",
    "compare": "rtserve.measure.compare:compare",
    "compile": "rtserve.graphs.native:compile_to_file",
    "evaluate": "rtserve.measure.evaluate:evaluate",
    "export": "rtserve.graphs.export:export",
    "fuse": "rtserve.fusion.fuse:fuse",
    "load_windows": "rtserve.signals.windows:load_windows",
    "predict": "rtserve.measure.predict:predict",
    "replay": "rtserve.submission.attestation.replay:replay",
    "save_windows": "rtserve.signals.windows:save_windows",
    "search": "rtserve.measure.search:search",
    "simulate": "rtserve.signals.simulate:simulate",
    "soup": "rtserve.training.soup:soup",
    "stream": "rtserve.streaming.build:stream",
    "verify": "rtserve.submission.custody:verify",
}
"""Where each public name is; those that are not in here may move. `__init__.pyi` says the same to type checkers."""

__all__ = [
    "Graph",
    "InputSpec",
    "OutputSpec",
    "RtserveClassifier",
    "RtserveError",
    "RtserveRegressor",
    "WindowSet",
    "__version__",
    "attest",
    "bench",
    "build",
    "calibrate",
    "check",
    "compare",
    "compile",
    "evaluate",
    "export",
    "fuse",
    "load_windows",
    "predict",
    "replay",
    "save_windows",
    "search",
    "simulate",
    "soup",
    "stream",
    "verify",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'rtserve' has no attribute {name!r}; it has {', '.join(_PLACES)}")
    module, _, attribute = _PLACES[name].partition(":")
    found = globals()[name] = getattr(importlib.import_module(module), attribute)
    return found

"""rtserve: trained EEG networks to exact, fast ONNX graphs and to submissions that are what was measured.

The Python API is the verbs of the command line, and what they take and give. All of it is imported on first use, so that
``import rtserve`` is cheap::

    import rtserve
    graph = rtserve.export(module, example, unit="uV", sfreq=250)
    y = rtserve.predict(graph, X, unit="uV")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from rtserve.errors import RtserveError as RtserveError
    from rtserve.fusion.fuse import fuse as fuse
    from rtserve.graphs.export import export as export
    from rtserve.graphs.graph import Graph as Graph
    from rtserve.graphs.native import compile_to_file as compile
    from rtserve.measure.bench import bench as bench
    from rtserve.measure.calibrate import calibrate as calibrate
    from rtserve.measure.compare import compare as compare
    from rtserve.measure.estimators import RtserveClassifier as RtserveClassifier
    from rtserve.measure.estimators import RtserveRegressor as RtserveRegressor
    from rtserve.measure.evaluate import evaluate as evaluate
    from rtserve.measure.predict import predict as predict
    from rtserve.measure.search import search as search
    from rtserve.signals.simulate import simulate as simulate
    from rtserve.signals.windows import WindowSet as WindowSet
    from rtserve.signals.windows import load_windows as load_windows
    from rtserve.signals.windows import save_windows as save_windows
    from rtserve.spec import InputSpec as InputSpec
    from rtserve.spec import OutputSpec as OutputSpec
    from rtserve.streaming.build import stream as stream
    from rtserve.submission.bundle import build as build
    from rtserve.submission.custody import verify as verify
    from rtserve.submission.validate import check as check
    from rtserve.training.soup import soup as soup

_PLACES = {
    "Graph": "rtserve.graphs.graph:Graph",
    "InputSpec": "rtserve.spec:InputSpec",
    "OutputSpec": "rtserve.spec:OutputSpec",
    "RtserveClassifier": "rtserve.measure.estimators:RtserveClassifier",
    "RtserveRegressor": "rtserve.measure.estimators:RtserveRegressor",
    "RtserveError": "rtserve.errors:RtserveError",
    "WindowSet": "rtserve.signals.windows:WindowSet",
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
    "save_windows": "rtserve.signals.windows:save_windows",
    "search": "rtserve.measure.search:search",
    "simulate": "rtserve.signals.simulate:simulate",
    "soup": "rtserve.training.soup:soup",
    "stream": "rtserve.streaming.build:stream",
    "verify": "rtserve.submission.custody:verify",
}
"""Where each public name is; those that are not in here may move."""

__all__ = [
    "Graph",
    "InputSpec",
    "OutputSpec",
    "RtserveClassifier",
    "RtserveError",
    "RtserveRegressor",
    "WindowSet",
    "__version__",
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

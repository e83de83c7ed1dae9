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
from rtserve.submission.attestation.attest import attest as attest
from rtserve.submission.attestation.replay import replay as replay
from rtserve.submission.bundle import build as build
from rtserve.submission.custody import verify as verify
from rtserve.submission.validate import check as check
from rtserve.training.soup import soup as soup

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

__version__: str

def __dir__() -> list[str]: ...

"""Where the tests find real checkpoints and recordings, and small graphs made once for all of them."""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from rtserve.graphs.pure_torchaudio import allow_pure_torchaudio
from tests import fast_part
from tests.order import longest_first

ROOT = Path(__file__).resolve().parent.parent
HANGS_S = 3600.0
"""Seconds after which what should have ended never will: on a machine that does much else, all takes long."""
SHARED = Path(os.environ.get("RTSERVE_SHARED", ROOT.parent / "shared"))

allow_pure_torchaudio()  # tests import braindecode beside whatever torchaudio the index gave
os.environ.setdefault("RTSERVE_STRICT", "1")  # a rewrite that raises is undone for a user, and is a defect here

settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two switches for `tests.fast_part`."""
    parser.addoption("--quick", action="store_true", help="the cheapest tests of every room")
    parser.addoption("--record-durations", action="store_true", help="write what tests take to tests/durations.json")


def pytest_configure(config: pytest.Config) -> None:
    """Record what tests take where that is asked for."""
    if config.getoption("--record-durations"):
        config.pluginmanager.register(fast_part.Recorder())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the fast part where it is asked for, order files for workers, and skip what needs absent real files."""
    if config.getoption("--quick"):
        kept = fast_part.chosen(fast_part.needs(items), fast_part.read())
        left = [item for item in items if fast_part.function_of(item.nodeid) not in kept]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if fast_part.function_of(item.nodeid) in kept]
    if hasattr(config, "workerinput"):
        files = longest_first((item.nodeid.partition("::")[0] for item in items), fast_part.read())
        place = {file: k for k, file in enumerate(files)}
        items.sort(key=lambda item: place[item.nodeid.partition("::")[0]])
    if (SHARED / "checkpoints").is_dir():
        return
    reason = pytest.mark.skip(reason=f"real checkpoints and recordings are not at {SHARED.name}/ beside the checkout")
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(reason)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Leave what the tests' modules load out of every search for garbage: a twelfth of the time went there."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU, or an optional package that cannot be imported for whatever reason: ``needs("openvino")``."""
    if item.get_closest_marker("gpu") is not None and (lack := _without_gpu()):
        pytest.skip(lack)
    for mark in item.iter_markers("needs"):
        if (reason := _failure(mark.args[0])) is not None:
            pytest.skip(f"{mark.args[0]} cannot be imported here: {reason}")


@functools.cache
def _without_gpu() -> str:
    import torch

    return "" if torch.cuda.is_available() else f"torch {torch.__version__} sees no CUDA device here"


@functools.cache
def _failure(package: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(package)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return None


@pytest.fixture(scope="session", autouse=True)
def _shared_start() -> Iterator[None]:
    """Let the exports of this process share the start of their children; tests/graphs/test_warm.py has both ways."""
    from rtserve.graphs.warm import shared_start

    with shared_start():
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real checkpoints/ and data/; only tests marked ``shared`` use it."""
    return SHARED


@pytest.fixture(scope="session")
def repo_dir() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def session_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole run, shared by all its workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "made-once"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def exported(session_dir: Path) -> Callable[..., Path]:
    """Export a checkpoint once per run: ``exported(checkpoint, exporter, **settings) -> path of the .onnx``."""
    from rtserve.graphs.export import export

    def get(checkpoint: Path | None, exporter: str, **values: Any) -> Path:
        key = hashlib.sha256(json.dumps([str(checkpoint), exporter, values], sort_keys=True).encode()).hexdigest()
        path = session_dir / f"{checkpoint.stem if checkpoint else 'seeded'}-{key[:12]}.onnx"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                export(checkpoint, exporter=exporter, settings=values).save(path)
        return path

    return get


@pytest.fixture(scope="session")
def small_checkpoints(session_dir: Path) -> list[Path]:
    """Two checkpoints of CompactRT on 6 channels, as a training leaves them, with lived-in BatchNorm statistics."""
    import torch

    from rtserve.training.networks import CompactRT

    paths = [session_dir / f"small{seed}.pth" for seed in (1, 2)]
    with FileLock(session_dir / "small.lock"):
        for seed, path in enumerate(paths, start=1):
            if not path.exists():
                torch.manual_seed(seed)
                network = CompactRT(6, input_scale=1e5).train()
                for _ in range(3):
                    network(1e-5 * torch.randn(16, 6, 40))
                torch.save({"model_state_dict": network.state_dict(), "seed": seed, "epoch": 3}, path)
    return paths


@pytest.fixture(scope="session")
def small_members(small_checkpoints: list[Path], exported: Callable[..., Path]) -> list[Path]:
    """Graphs of `small_checkpoints`: 6 channels x 40 samples at 100 Hz, a response time."""
    return [
        exported(path, "rtserve.training.networks:exporter", n_times=40, sfreq=100.0, target="response_time")
        for path in small_checkpoints
    ]


@pytest.fixture(scope="session")
def real_members(shared_dir: Path, exported: Callable[..., Path]) -> list[Path]:
    """Graphs of the five real CompactRT checkpoints; only for tests marked ``shared``."""
    folder = shared_dir / "checkpoints" / "compact_rt"
    return [exported(path, str(ROOT / "exporters" / "compact_rt.py")) for path in sorted(folder.glob("seed*.pth"))]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: ``cli("fuse", a, b) -> (exit code, stdout, stderr)``."""
    from rtserve.cli.main import main

    def run(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in argv])
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run

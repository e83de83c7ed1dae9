"""Exports that share a start are those of a process of their own, and cannot reach one another."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rtserve.errors import ExportError, InputError
from rtserve.graphs import export_server, warm
from rtserve.graphs.export import export
from rtserve.graphs.graph import OPSET
from tests.conftest import HANGS_S

ODD = Path(__file__).parent / "odd_networks.py"
OWN = "rtserve.training.networks:exporter"


LIGHT = """
from rtserve.graphs import export_server as server
server.LOADED, server.share_registry = server.LOADED[:1], lambda opset: None
server.main()
"""
"""A server that has loaded only what it needs itself; an export that comes so far loads the rest."""


@pytest.fixture
def pool(monkeypatch):
    """A pool of its own, so that the servers of other tests are left alone, which start sooner: exports get nowhere."""
    fresh = warm._Pool()
    monkeypatch.setattr(warm, "_POOL", fresh)
    monkeypatch.setattr(warm, "_SERVER", (sys.executable, "-c", LIGHT))
    return fresh


def running(pid):
    """Whether a process is there and no zombie."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_shared_start_gives_the_bytes_of_an_own_one(small_checkpoints, small_members):
    """One export after another network's in the server of this session; tests/graphs/test_export.py has an own start."""

    def data(checkpoint):
        settings = {"n_times": 40, "sfreq": 100.0, "target": "response_time"}
        return export(checkpoint, exporter=OWN, settings=settings).to_bytes()

    own = [path.read_bytes() for path in small_members]
    assert own[0] != own[1]
    with warm.shared_start():
        assert data(small_checkpoints[1]) == own[1]
        server = warm._POOL.idle[-1]
        assert data(small_checkpoints[0]) == own[0]
        assert warm._POOL.idle[-1] is server


def test_a_server_is_kept_in_its_block_and_ends_with_it(pool, monkeypatch):
    def told():
        with pytest.raises(InputError, match="KeyError"):
            export(None, exporter=f"{ODD}:broken")

    with warm.shared_start():
        told()
        (server,) = pool.idle
        told()
        assert pool.idle == [server]
        assert running(server._process.pid)
    assert not pool.idle
    assert not running(server._process.pid)
    own = []
    nothing = subprocess.CompletedProcess((), 1, "", "")
    monkeypatch.setattr(warm.subprocess, "run", lambda command, **_: own.append(command) or nothing)
    with pytest.raises(ExportError, match="died"):
        export(None, exporter=f"{ODD}:broken")
    assert len(own) == 1, "outside of a block each has a process of its own"
    assert not pool.idle


def test_an_operator_that_an_exporter_enters_is_found_and_each_export_has_its_own_table(monkeypatch):
    from onnxscript.function_libs.torch_lib import registration
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    monkeypatch.setattr(ONNXRegistry, "from_torchlib", ONNXRegistry.__dict__["from_torchlib"])  # put back in the end
    export_server.share_registry(OPSET)
    one, other = ONNXRegistry.from_torchlib(OPSET), ONNXRegistry.from_torchlib(opset_version=OPSET)
    assert one.functions == other.functions
    one.functions["aten::relu"].clear()
    assert len(other.functions["aten::relu"]) == 1
    entered = registration.default_registry["aten::relu"].overloads
    monkeypatch.setattr(registration.default_registry["aten::relu"], "overloads", [*entered, *entered])
    assert len(ONNXRegistry.from_torchlib(OPSET).functions["aten::relu"]) == 2


def test_an_export_finds_no_trace_of_another_but_our_folder_and_environment(pool, tmp_path, monkeypatch):
    told = []
    with warm.shared_start():
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            monkeypatch.setenv("RTSERVE_TOLD", name)
            with pytest.raises(InputError, match="export 1 in ") as caught:
                export(None, exporter=f"{ODD}:remembering")
            told.append(str(caught.value))
    for name, text in zip(("one", "two"), told, strict=True):
        assert f"{tmp_path / name} with {name}" in text


def test_an_export_that_dies_hangs_or_loses_its_server_leaves_the_next_one_whole(pool, small_checkpoints):
    with warm.shared_start():
        with pytest.raises(ExportError, match=r"died .signal SIGKILL"):
            export(None, exporter=f"{ODD}:dying")
        with pytest.raises(ExportError, match=r"took longer than 0\.2 s and was stopped"):
            export(None, exporter=f"{ODD}:sleeping", timeout_s=0.2)
        (server,) = pool.idle
        with pytest.raises(InputError, match="KeyError"):
            export(None, exporter=f"{ODD}:broken")
        server._process.kill()
        with pytest.raises(InputError, match="KeyError"):  # in a process of its own
            export(None, exporter=f"{ODD}:broken")
        assert not pool.idle


def test_a_server_loads_what_its_exports_need_besides(pool, tmp_path, monkeypatch):
    (tmp_path / "needed.py").write_text("from pathlib import Path\n\ndef load():\n    Path('loaded').touch()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with warm.shared_start("needed:load", "not.there"), pytest.raises(InputError, match="KeyError"):
        export(None, exporter=f"{ODD}:broken")
    assert (tmp_path / "loaded").exists()
    assert pool.also == ()


def test_what_interrupts_a_wait_ends_the_export_and_its_server(pool, tmp_path, monkeypatch):
    started, servers = threading.Event(), []

    class Interrupted(warm._Server):
        def __init__(self, also):
            super().__init__(also)
            servers.append(self)

    def interrupt(*_):
        started.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(warm, "_Server", Interrupted)
    monkeypatch.setattr(warm.threading, "Timer", interrupt)
    ended = []
    monkeypatch.setattr(warm, "_kill", lambda pid, real=warm._kill: (ended.append(pid), real(pid)))
    with warm.shared_start(), pytest.raises(KeyboardInterrupt):
        export(None, exporter=f"{ODD}:sleeping")
    assert started.is_set()
    assert not pool.idle
    deadline = time.monotonic() + 120  # a killed process ends when the system comes to it
    while any(running(pid) for pid in (*ended, servers[0]._process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(running(pid) for pid in (*ended, servers[0]._process.pid))


def test_what_interrupts_who_waits_for_threads_ends_their_exports(pool, tmp_path, monkeypatch):
    """A terminal's Ctrl-C reaches a server that has only begun, too: it must not die of it, to be made up for."""
    servers, own, waiting, children = [], [], [], []

    class Hit(warm._Server):
        def __init__(self, also):
            super().__init__(also)
            os.kill(self._process.pid, signal.SIGINT)
            servers.append(self)

    monkeypatch.setattr(warm, "_Server", Hit)
    monkeypatch.setattr(warm.subprocess, "run", lambda *a, **k: own.append(a))
    monkeypatch.setenv("RTSERVE_TOLD", str(tmp_path / "pid"))

    def wait_and_be_interrupted(threads):
        deadline = time.monotonic() + HANGS_S
        with warm.shared_start():
            waiting.append(threads.submit(export, None, exporter=f"{ODD}:sleeping"))
            while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            children.append(int((tmp_path / "pid").read_text()))
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(KeyboardInterrupt):
            wait_and_be_interrupted(threads)
        with pytest.raises(KeyboardInterrupt):
            waiting[0].result(HANGS_S)
    assert own == []
    assert len(servers) == 1
    assert not pool.idle
    assert not pool.busy
    deadline = time.monotonic() + 120
    while any(map(running, (*children, servers[0]._process.pid))) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(running, (*children, servers[0]._process.pid)))


def test_side_by_side_there_is_a_server_for_each_and_they_are_kept(pool, monkeypatch):
    def told(_):
        with pytest.raises(InputError, match="KeyError"):
            export(None, exporter=f"{ODD}:broken")

    with warm.shared_start():
        for _ in range(2):
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(told, range(2)))
        assert 1 <= len(pool.idle) <= 2
        with warm.shared_start():
            pass
        assert pool.idle, "an inner block ends nothing"
    assert not pool.idle

"""The scorer's calls for both kinds of contest, in the scorer's order, then everything else that is worth knowing."""

from __future__ import annotations

import copy
import gc
import importlib
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from .channel import Channel, describe_error
from .describe import describe_object, describe_output, differs, fingerprints, flat
from .guards import Watch
from .probes import Probes
from .record import Loads
from .scripts import install_base_classes, load_copy, load_named, named_solver, run_beside

__all__ = ["Drive"]

LARGE = 64 * 2**20
"""Bytes of weights from which memory is given back between challenges."""


class Drive:
    """Calls a submission as the scorer does.

    Parameters
    ----------
    spec : dict
        What the checker wants: folder, entry, challenges, signal, budgets.
    channel : Channel
        Where events go.
    watch : Watch
        Its record is sent after each stage.
    windows : dict of str to Tensor, (n_windows, n_chans, n_times)
        Probe windows of every challenge.
    """

    def __init__(self, spec: dict[str, Any], channel: Channel, watch: Watch, windows: dict[str, torch.Tensor]) -> None:
        self.spec, self.channel, self.watch, self.windows = spec, channel, watch, windows
        self.folder: str = spec["folder"]
        self.entry: dict[str, Any] = spec["entry"]
        self.solver = self.entry["style"] == "solver"
        self.loads = Loads(lambda error: describe_error(error, self.folder))
        self.marks: dict[str, dict[str, list[float]]] = {}
        self.outputs: dict[str, Any] = {}
        self.module: Any = None
        self.build_s = 0.0
        self.bytes = 0
        self.pace: dict[str, tuple[float, bool]] = {}

    # ------------------------------------------------------------------ stages

    def run(self) -> None:
        """Make all calls; each stage reports for itself and a failed one ends only what depends on it."""
        _seed(1)
        if not self._stage("import", self._import):
            return
        if self.entry["every_script"]:
            self._stage("scripts", lambda: run_beside(self.folder, self.entry["file"]))
        shared: dict[str, Any] = {}
        if not self._stage("construct", lambda: shared.update(sub=self._construct("cpu"))):
            return
        for challenge in self.spec["challenges"]:
            self.channel.challenge = challenge["key"]
            self._challenge(shared["sub"], challenge)
            self._free()
        self._again(shared.pop("sub"))
        self.channel.challenge = ""
        self.channel.emit("end", ok=True)

    def _free(self) -> None:
        """Collect what reference counting left, where it is worth the time: two large networks need not fit at once."""
        if self.bytes > LARGE:
            gc.collect()

    def _stage(self, stage: str, action: Callable[[], dict[str, Any] | None]) -> bool:
        self.watch.active = True
        ok = self.channel.attempt(stage, self.folder, action)
        self.watch.active = False
        self._tell_tried(stage)
        return ok

    def _tell_tried(self, stage: str) -> None:
        entries = self.loads.take()
        if entries:
            self.channel.emit("loads", during=stage, entries=entries)
        for name in ("network", "processes", "opened"):
            items = getattr(self.watch, name)
            if items:
                self.channel.emit(name, during=stage, items=list(items))
                items.clear()

    def _import(self) -> dict[str, Any] | None:
        start = time.perf_counter()
        if self.solver:
            install_base_classes(self.entry["base"])
        file = self.entry["file"]
        self.module = load_copy(self.folder, file) if self.entry["every_script"] else load_named(file)
        names = [name for name, value in vars(self.module).items() if isinstance(value, type)]
        return {"seconds": time.perf_counter() - start, "classes": names[:100], "file": str(self.module.__file__)}

    def _construct(self, device: str) -> Any:
        if self.solver:
            return named_solver(self.module, self.entry["class_name"])()
        sfreq = self.spec["challenges"][0]["signal"]["sfreq"]
        return getattr(self.module, self.entry["class_name"])(sfreq, torch.device(device))

    def _build(self, sub: Any, challenge: dict[str, Any], device: str = "cpu") -> Any:
        if not self.solver:
            return getattr(sub, challenge["call"])()
        meta = self._meta(challenge, device)
        sub.device, sub.train_loader, sub.meta = meta["device"], None, meta
        return getattr(sub, challenge["call"])(meta)

    def _meta(self, challenge: dict[str, Any], device: str) -> dict[str, Any]:
        from pathlib import Path

        signal = challenge["signal"]
        names = list(challenge["ch_names"])
        return {
            "submission_dir": Path(self.folder),
            "device": device,
            "n_chans": signal["n_chans"],
            "n_times": signal["n_times"],
            "sfreq": float(signal["sfreq"]),
            "ch_names": names,
            "chs_info": [{"ch_name": name} for name in names],
            **challenge.get("meta", {}),
        }

    # --------------------------------------------------------- one challenge

    def _challenge(self, sub: Any, challenge: dict[str, Any]) -> None:
        box: dict[str, Any] = {}

        def build() -> dict[str, Any]:
            start = time.perf_counter()
            box["model"] = self._build(sub, challenge)
            self.build_s = time.perf_counter() - start
            return {"seconds": self.build_s}

        if not self._stage("build", build):
            return
        model = box["model"]

        def describe() -> dict[str, Any]:
            described = describe_object(model, self.entry["requires"])
            self.bytes = described["bytes"]
            return described

        self._stage("object", describe)
        if any(not callable(getattr(model, name, None)) for name in self.entry["requires"]):
            return
        if "eval" in self.entry["requires"] and not self._stage("eval", lambda: _none(model.eval())):
            return
        if challenge["streaming"]:
            self._stage("deepcopy", lambda: _none(copy.deepcopy(model)))
        self._forward(sub, model, challenge)

    def _call(self, model: Any) -> Callable[[torch.Tensor], Any]:
        method = self.entry["method"]

        def call(x: torch.Tensor) -> Any:
            with torch.inference_mode():
                return getattr(model, method)(x)

        return call

    def _forward(self, sub: Any, model: Any, challenge: dict[str, Any]) -> None:
        call = self._call(model)
        probes = self._probes(model, challenge)

        def first() -> dict[str, Any]:
            start = time.perf_counter()
            y = call(probes.one(0))
            probes.cost = time.perf_counter() - start
            self.outputs[challenge["key"]] = y
            return describe_output(y) | {"seconds": probes.cost}

        if not self._stage("forward", first):
            return
        self.marks[challenge["key"]] = fingerprints(model)
        probes.start(self.spec["budget_s"])
        n = min(self.spec["n_windows"], max(3, int(0.4 * self.spec["budget_s"] / max(probes.cost, 1e-6))))
        if not self._stage("windows", lambda: probes.time_windows(n, whole=challenge.get("whole", False))):
            return
        self._probe(probes, probes.plain())
        self.pace[challenge["key"]] = (probes.cost, probes.steady)
        if challenge["streaming"]:
            self._stage("stream", lambda: self._stream(model, self.windows[challenge["key"]]))
        for name in challenge.get("dead", []):
            self._stage("dead", lambda name=name: self._dead(sub, name, probes))  # type: ignore[misc]

    def _probe(self, probes: Probes, chosen: list[tuple[str, Callable[[], dict[str, Any]], int]]) -> None:
        for name, probe, passes in chosen:
            if probes.affordable(passes):
                self._stage(name, probe)
            else:
                self.channel.emit("left_out", what=name, seconds=probes.cost)

    def _probes(self, model: Any, challenge: dict[str, Any]) -> Probes:
        return Probes(
            self._call(model), model, self.windows[challenge["key"]], challenge["signal"]["scale"],
            self.spec["budget_s"], challenge["size"],
        )  # fmt: skip

    def _stream(self, model: Any, windows: torch.Tensor) -> dict[str, Any]:
        """Two streams on two copies, windows in turn, against one stream alone: nothing may leak between copies."""

        def fresh() -> Any:
            one = copy.deepcopy(model)
            if callable(getattr(one, "reset_state", None)):
                one.reset_state()
            return self._call(one)

        n = min(6, len(windows))
        alone = fresh()
        expected = [flat(alone(windows[i : i + 1].clone())) for i in range(n)]
        one, two = fresh(), fresh()
        got = []
        for i in range(n):
            got.append(flat(one(windows[i : i + 1].clone())))
            two(windows[n - 1 - i : n - i].clone() * 3.0)
        return {"difference": differs(torch.tensor(expected), torch.tensor(got)), "windows": n}

    def _dead(self, sub: Any, name: str, probes: Probes) -> dict[str, Any]:
        """Call a method that the scorer never calls, to show what it would have given."""
        with torch.inference_mode():
            y = getattr(sub, name)(probes.one(0))
        scored = probes.call(probes.one(0))
        return {"method": name, "gives": flat(y, 4), "scored": flat(scored, 4), "difference": differs(y, scored)}

    # -------------------------------------------------------------- afterwards

    def _again(self, sub: Any) -> None:
        """Build once more on new objects, under other seeds, last challenge first; then on the meta device."""
        for challenge in reversed(self.spec["challenges"]):
            self.channel.challenge = challenge["key"]
            if challenge["key"] not in self.marks:
                continue
            if self.build_s > self.spec["rebuild_s"]:
                self.channel.emit("left_out", what="a second build and all that follows", seconds=self.build_s)
                continue
            _seed(1000003)
            box: dict[str, Any] = {}
            self._stage("again", lambda c=challenge, b=box: self._rebuild(c, b))  # type: ignore[misc]
            if "model" in box:
                self._odd(challenge, box.pop("model"))
            self._free()
        del sub
        with importlib.import_module(f"{__package__}.without_compiler").without_compiler():  # from rtserve.graphs
            for challenge in self.spec["challenges"]:
                self.channel.challenge = challenge["key"]
                if challenge["key"] in self.marks and self.build_s < 0.25 * self.spec["rebuild_s"]:
                    self._stage("device", lambda c=challenge: self._on_meta(c))  # type: ignore[misc]

    def _odd(self, challenge: dict[str, Any], model: Any) -> None:
        if challenge["key"] not in self.pace:
            return
        probes = self._probes(model, challenge)
        probes.cost, probes.steady = self.pace[challenge["key"]]
        self._probe(probes, probes.odd())

    def _rebuild(self, challenge: dict[str, Any], box: dict[str, Any]) -> dict[str, Any]:
        model = self._build(self._construct("cpu"), challenge)
        if callable(getattr(model, "eval", None)):
            model.eval()
        old, new = self.marks[challenge["key"]], fingerprints(model)
        changed = [name for name, mark in new.items() if name in old and not _same(old[name], mark)]
        y = self._call(model)(self._probes(model, challenge).one(0))
        box["model"] = model
        return {
            "tensors": len(new),
            "changed": changed[:200],
            "n_changed": len(changed),
            "output_difference": differs(y, self.outputs[challenge["key"]]),
        }

    def _on_meta(self, challenge: dict[str, Any]) -> dict[str, Any]:
        """Build and run on the device that holds no numbers: a tensor made elsewhere shows itself there."""
        try:
            model = self._build(self._construct("meta"), challenge, "meta")
        except BaseException as error:  # much that is right cannot be built there
            return {"built": False, "error": describe_error(error, self.folder)}
        devices = describe_object(model, [])["devices"]
        try:
            y = self._call(model)(self.windows[challenge["key"]][: challenge["size"]].to("meta"))
        except BaseException as error:
            return {"built": True, "devices": devices, "error": describe_error(error, self.folder)}
        return {"built": True, "devices": devices, "output": str(getattr(y, "device", ""))}


def _same(one: list[float], two: list[float]) -> bool:
    return all(a == b or (a != a and b != b) for a, b in zip(one, two))  # noqa: B905


def _none(_: Any) -> None:
    return None


def _seed(value: int) -> None:
    torch.manual_seed(value)
    random.seed(value)
    os.environ["PYTHONHASHSEED"] = str(value)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(value % (2**32))

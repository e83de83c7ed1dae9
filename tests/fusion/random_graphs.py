"""Random small networks, fused at random, judged by numbers that rtserve did not make.

One integer says everything: the members (one to three, alike or not), the views, the merge, the engine. The truth is
each member in onnxruntime on windows that numpy transformed, merged in numpy; the fused graph must give the same in
onnxruntime, in the executor, and in OpenVINO where it was laid out for it, or be refused by name.
"""

from __future__ import annotations

import traceback
import warnings
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

from rtserve.errors import RtserveError
from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.plan import Calibration, Merge
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner, OpenvinoRunner, PlanRunner
from rtserve.spec import InputSpec, OutputSpec, Provenance
from tests.fusion.random_layers import BOTH, IMAGE, SIGNAL, Net, NoFitError
from tests.fusion.random_moves import MOVES, head

NAMES = ("F3", "F4", "C3", "C4", "Cz", "Pz", "O1", "O2")
ALLOWED = 2e-5
"""Relative to the largest answer (at least 1e-3), beside four times what the members' own float32 is off by."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one seed asks for."""

    seed: int
    members: tuple[Graph, ...]
    layers: tuple[tuple[str, ...], ...]
    views: tuple[str, ...]
    merge: Merge
    calibration: Calibration | None
    engine: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one seed ended: equal, refused, wrong or crash; `undone` lists steps that the compiler took back."""

    seed: int
    kind: str
    why: str = ""
    engine: str = ""
    undone: tuple[str, ...] = field(default=())


def network(
    n_chans: int, n_times: int, n_outputs: int, architecture: int, weights: int
) -> tuple[Graph, tuple[str, ...]]:
    """Return a random network and the names of its layers."""
    net = Net(n_chans, n_times, architecture, weights)
    for _ in range(net.number(1, 7)):
        layers = (*(SIGNAL if len(net.shape) == 2 else IMAGE), *BOTH, *MOVES)
        layer = layers[net.pick.integers(len(layers))]
        before = net.value, net.shape, len(net.nodes), len(net.constants)
        try:
            layer(net)
            if np.prod(net.shape) > 2000:
                raise NoFitError
            net.layers.append(layer.__name__)
        except NoFitError:
            net.value, net.shape = before[:2]
            del net.nodes[before[2] :], net.constants[before[3] :]
    head(net, n_outputs)
    return graph_of(net, n_chans, n_times, n_outputs), tuple(net.layers)


def graph_of(net: Net, n_chans: int, n_times: int, n_outputs: int) -> Graph:
    """Return a finished network as a `Graph`; onnx's checker has seen it."""
    import onnx_ir as ir

    net.nodes.append(helper.make_node("Identity", [net.value], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", n_chans, n_times])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", n_outputs])
    graph = helper.make_graph(net.nodes, "random", [x], [y], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return Graph(
        model=ir.serde.deserialize_model(model),
        input_spec=InputSpec(n_chans=n_chans, n_times=n_times, sfreq=100.0, ch_names=NAMES[:n_chans], unit="1"),
        output_spec=OutputSpec(n_outputs=n_outputs, target="score"),
        provenance=Provenance(kind="export", details={}),
    )


def draw(seed: int) -> Task:
    """Return the task of a seed."""
    rng = np.random.default_rng([seed, 19])
    n_chans, n_times = int(rng.integers(3, 9)), int(rng.choice([32, 40, 48, 50, 64]))
    n_outputs = int(rng.choice([1, 1, 2, 4]))
    alike, members, layers = rng.random() < 0.5, [], []
    for member in range(int(rng.choice([1, 1, 2, 3]))):
        architecture = seed * 10 + (0 if alike else member)
        graph, names = network(n_chans, n_times, n_outputs, architecture, seed * 10 + member + 5)
        members.append(graph)
        layers.append(names)
    views = draw_views(rng, n_chans, n_times)
    branches = len(members) * len(views)
    weights = rng.uniform(-0.5, 1.0, branches)
    weights = np.where(rng.random(branches) < 0.2, 0.0, weights)
    weights = weights / weights.sum() if abs(weights.sum()) > 0.2 else np.full(branches, 1.0 / branches)
    merge = {
        "mean": Merge(),
        "median": Merge(kind="median"),
        "trimmed": Merge(kind="trimmed", proportion=0.25),
        "weighted": Merge(kind="weighted", weights=tuple(float(w) for w in weights)),
    }[str(rng.choice(["mean", "mean", "mean", "weighted", "median", "trimmed"]))]
    calibration = Calibration(scale=1.5, offset=-0.25, low=-1.0, high=1.0) if rng.random() < 0.2 else None
    engine = str(rng.choice(["onnxruntime", "onnxruntime", "openvino", "torch"]))
    return Task(seed=seed, members=tuple(members), layers=tuple(layers), views=views, merge=merge,
                calibration=calibration, engine=engine)  # fmt: skip


def draw_views(rng, n_chans: int, n_times: int) -> tuple[str, ...]:
    """Return one to five different views."""
    shifts = [int(k) for k in rng.integers(1, min(9, n_times // 2), 4) * rng.choice([-1, 1], 4)]
    dropped = "+".join(rng.choice(NAMES[:n_chans], int(rng.integers(1, 3)), replace=False))
    known = ["identity", *(f"roll:{k:+d}" for k in shifts), *(f"crop-shift:{k:+d}" for k in shifts[:2]), "scale:0.8",
             "sign-flip", "time-reverse", f"drop:{dropped}", "mirror"]  # fmt: skip
    known = known if n_chans in (2, 4, 5, 6, 8) else known[:-1]
    count = int(rng.choice([1, 2, 3, 5]))
    extra = rng.choice(known[1:], count - 1, replace=False) if count > 1 else []
    if rng.random() < 0.3:  # rolls alone share most
        extra = [f"roll:{k:+d}" for k in dict.fromkeys(shifts)][: count - 1]
    return tuple(dict.fromkeys(["identity", *map(str, extra)] if rng.random() < 0.85 or count < 2 else map(str, extra)))


def seen_through(view: str, x: np.ndarray) -> np.ndarray:
    """Return windows as a view shows them, in numpy."""
    kind, _, argument = view.partition(":")
    if kind == "roll":
        return np.roll(x, int(argument), -1)
    if kind == "crop-shift":
        k, y = int(argument), np.zeros_like(x)
        if k > 0:
            y[..., k:] = x[..., :-k]
        else:
            y[..., :k] = x[..., -k:]
        return y
    if kind == "drop":
        y = x.copy()
        y[:, [NAMES.index(name) for name in argument.split("+")]] = 0.0
        return y
    if kind == "mirror":
        pairs = {"F3": "F4", "C3": "C4", "O1": "O2"}
        pairs |= {right: left for left, right in pairs.items()}
        return x[:, [NAMES.index(pairs.get(name, name)) for name in NAMES[: x.shape[1]]]]
    factor = {"scale": float(argument or 1.0), "sign-flip": -1.0}.get(kind, 1.0)
    return x[..., ::-1].copy() if kind == "time-reverse" else (np.float32(factor) * x)


def merged(task: Task, branches: np.ndarray) -> np.ndarray:
    """Return what the plan makes of (branches, batch, outputs), in float64."""
    if task.merge.kind == "weighted":
        y = np.tensordot(np.array(task.merge.weights), branches, 1)
    elif task.merge.kind == "median":
        y = np.median(branches, 0)
    elif task.merge.kind == "trimmed":
        drop = int(task.merge.proportion * len(branches) + 1e-12)
        y = np.sort(branches, 0)[drop : len(branches) - drop].mean(0)
    else:
        y = branches.mean(0)
    if task.calibration:
        y = np.clip(task.calibration.scale * y + task.calibration.offset, -1.0, 1.0)
    return y


def inputs(task: Task) -> list[np.ndarray]:
    """Return windows of several batch sizes."""
    rng, spec = np.random.default_rng([task.seed, 7]), task.members[0].input_spec
    shape = (spec.n_chans, spec.n_times)
    return [(scale * rng.standard_normal((batch, *shape)) + shift).astype("f4")
            for batch, scale, shift in ((3, 1.0, 0.0), (1, 2.0, 0.5), (6, 0.1, -0.2))]  # fmt: skip


def off(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference relative to the largest answer; infinite where shapes or finiteness differ."""
    if got.shape != expected.shape or not np.array_equal(np.isfinite(got), np.isfinite(expected)):
        return float("inf")
    fine = np.isfinite(expected)
    if not fine.any():
        return 0.0
    return float(np.abs(got[fine] - expected[fine]).max() / max(1e-3, np.abs(expected[fine]).max()))


def answers(task: Task, runners, x: np.ndarray) -> np.ndarray:
    """Return (branches, batch, outputs): every member through every view."""
    return np.stack(
        [runner.infer(seen_through(view, x)).astype(np.float64) for runner in runners for view in task.views]
    )


def judge(seed: int, *, checked: bool = True) -> Verdict:
    """Draw, fuse and compare one seed; without the compiler's own checks, every rewrite stands or falls here."""
    task = draw(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _judge(task, checked)
    except Exception:
        return Verdict(seed=seed, kind="crash", engine=task.engine, why=traceback.format_exc(limit=-6))


def _judge(task: Task, checked: bool) -> Verdict:
    plain = [OnnxruntimeRunner(graph) for graph in task.members]
    try:
        fused, report, _ = fuse_with_report(
            task.members, views=list(task.views), merge=task.merge, calibration=task.calibration, engine=task.engine,
            force=True, parity=checked,
        )  # fmt: skip
        undone = tuple(f"{one.name} ({one.subject}): {one.reason}" for one in report.outcomes if one.status == "undone")
        engines = {"onnxruntime": OnnxruntimeRunner(fused), "executor": PlanRunner(fused)}
        if task.engine == "openvino":
            engines["openvino"] = OpenvinoRunner(fused)
        exact = [PlanRunner(graph, double=True) for graph in task.members]
    except RtserveError as error:
        return Verdict(
            seed=task.seed, kind="refused", engine=task.engine, why=f"{type(error).__name__}: {error.message}"
        )
    worst = ""
    for x in inputs(task):
        branches = answers(task, plain, x)
        truth, own = merged(task, branches), max(map(off, branches, answers(task, exact, x)))
        # Weights of both signs, or a scale, may leave answers far smaller than what they were made of.
        size, made_of = (np.abs(y[np.isfinite(y)]).max(initial=0.0) for y in (truth, branches))
        grown = max(1.0, 2 * made_of / max(1e-3, size))
        for name, runner in engines.items():
            error = off(runner.infer(x).astype(np.float64), truth)
            if not error <= (ALLOWED + 4 * own) * grown or own > 1e-3:
                worst = worst or f"{name} is off by {error:.1e} at batch {len(x)}; members' own {own:.1e}"
    return Verdict(seed=task.seed, kind="wrong" if worst else "equal", why=worst, engine=task.engine, undone=undone)

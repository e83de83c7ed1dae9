"""What a person would run on a CUDA device for members and views, each as a call without arguments."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rtserve.fusion.views import parse_views
from rtserve.runtime.executor import PlanModule

if TYPE_CHECKING:
    from gpu import Case

Call = Callable[[], Tensor]
EAGER, OURS = "one eager forward", "rtserve"
PLAIN = "rtserve, laid out for torch"
LAUNCHES = "rtserve, launch by launch"
"""Our plan without CUDA graphs: what it was before the executor captured."""


def loop(modules: Sequence[nn.Module], views: Sequence[str], x: Tensor) -> Call:
    """Return the mean over members and views, one forward after the other."""
    shown = [view.torch for view in parse_views(views)]

    def call() -> Tensor:
        with torch.inference_mode():
            return torch.stack([module(show(x)) for module in modules for show in shown]).mean(0)

    return call


def captured(call: Call) -> Call:
    """Return a call as a CUDA graph, captured here."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        answer = call()

    def replay(weights: Call = call) -> Tensor:  # a graph knows addresses only: what it reads lives in `call`
        graph.replay()
        return answer

    return replay


def stacked(modules: Sequence[nn.Module], views: Sequence[str], x: Tensor) -> Call:
    """Return the mean over members by vmap of stacked weights, views on the batch."""
    parameters, buffers = torch.func.stack_module_state(list(modules))
    base = copy.deepcopy(modules[0]).to("meta")
    shown = [view.torch for view in parse_views(views)]

    def one(weights: Any, kept: Any, windows: Tensor) -> Tensor:
        answer: Tensor = torch.func.functional_call(base, (weights, kept), (windows,))
        return answer

    over = torch.vmap(one, in_dims=(0, 0, None))

    def call() -> Tensor:
        with torch.no_grad():
            answers = over(parameters, buffers, torch.cat([show(x) for show in shown]))
            return answers.reshape(len(modules) * len(shown), len(x), -1).mean(0)

    return call


def scripted(modules: Sequence[nn.Module], views: Sequence[str], x: Tensor) -> Call:
    """Return the loop over frozen TorchScript traces."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        traced = [torch.jit.freeze(torch.jit.trace(copy.deepcopy(module), x, check_trace=False)) for module in modules]
    return loop(traced, views, x)


def ours(case: Case, x: Tensor, *, precision: str = "float32", replay: bool = True, plain: bool = False) -> Call:
    """Return our plan, launch by launch or as the executor replays it from its third call on."""
    plan, tensors = case.plain if plain and case.plain is not None else (case.plan, case.tensors)
    module = PlanModule({**plan, "precision": precision}, tensors).to(x.device).eval()
    with torch.inference_mode():
        for _ in range(3 if replay else 0):
            module(x)
        if not replay:
            module.program = module._bind()
            module.replays = None
        elif x.is_cuda and module.replays is not None and len(x) not in module.replays.kept:
            raise RuntimeError(module.replays.reason)

    def call() -> Tensor:
        with torch.inference_mode():
            y: Tensor = module(x)
            return y

    return call


def tf32_calls(case: Case, modules: Sequence[nn.Module], x: Tensor) -> dict[str, Call]:
    """Return the eager loop and our plan with TF32 allowed: for their errors, not their times."""
    eager = loop(modules, case.views, x)

    def allowed() -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
            return eager()

    return {"eager loop, TF32": allowed, f"{OURS}, TF32": ours(case, x, precision="tf32")}


def calls_of(
    case: Case, modules: Sequence[nn.Module], x: Tensor, *, inductor: bool
) -> tuple[dict[str, Call], dict[str, str]]:
    """Return every engine's call, and why those that could not be made could not."""
    first, views = modules[:1], case.views
    makers: dict[str, Callable[[], Call]] = {
        EAGER: lambda: loop(first, ("identity",), x),
        "eager loop": lambda: loop(modules, views, x),
        "TorchScript loop": lambda: scripted(modules, views, x),
        "vmap": lambda: stacked(modules, views, x),
        LAUNCHES: lambda: ours(case, x, replay=False),
        OURS: lambda: ours(case, x),
    }
    if case.plain is not None:
        makers[PLAIN] = lambda: ours(case, x, plain=True)
    if x.is_cuda:
        makers[f"{EAGER}, CUDA graph"] = lambda: captured(loop(first, ("identity",), x))
        makers["vmap, CUDA graph"] = lambda: captured(stacked(modules, views, x))
    if inductor:
        makers["torch.compile, loop"] = lambda: loop([torch.compile(module) for module in modules], views, x)
    calls, refused = {}, {}
    for name, make in makers.items():
        try:
            call = make()
            call()
            calls[name] = call
        except Exception as error:  # a peer that cannot run this network is a result, not an end
            refused[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return calls, refused


def count_kernels(case: Case, modules: Sequence[nn.Module], x: Tensor) -> dict[str, int]:
    """Return how many kernels and copies a call of some engines launches, by the profiler."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    counts = {}
    calls = {
        EAGER: loop(modules[:1], ("identity",), x),
        "vmap": stacked(modules, case.views, x),
        OURS: ours(case, x, replay=False),
    }
    for name, call in calls.items():
        call()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            call()
            torch.cuda.synchronize()
        counts[name] = sum(event.device_type == DeviceType.CUDA for event in seen.events())
    return counts


def first_calls(case: Case, x: Tensor) -> list[float]:
    """Return what the first three calls of a batch size take, in ms: plain with the plan bound, captured, replayed."""
    module, taken = PlanModule(case.plan, case.tensors).to(x.device).eval(), []
    with torch.inference_mode():
        for _ in range(3):
            torch.cuda.synchronize()
            start = time.perf_counter()
            module(x)
            torch.cuda.synchronize()
            taken.append((time.perf_counter() - start) * 1e3)
    return taken

"""Export of a torch module that the caller holds: what the child process of an export does, done here.

The class may live in a notebook's ``__main__``, so no other process could load it; and it is the caller's own code, so
none need be kept from it. All is done on a copy: the module keeps its mode, its weights, its device and its hooks, and
what is global to torch is as before.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import io
import json
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rtserve.errors import ExportError, InputError
from rtserve.graphs.example import example_spec
from rtserve.graphs.export_child import EXAMPLE_BATCH, Work, example_input, named_errors, no_numbers, perform, ready
from rtserve.graphs.exporter import Built, Quirk
from rtserve.graphs.fit import is_lazy
from rtserve.graphs.meaning import listed
from rtserve.spec import InputSpec, OutputSpec

__all__ = ["Subject", "prepared", "run_here"]

_ONE_AT_A_TIME = threading.Lock()
"""What an export sets aside belongs to the whole process."""
SHAPES = "a network takes (batch, n_chans, n_times) and gives (batch, n_outputs)"


class Column(nn.Module):  # type: ignore[misc]
    """A network that gives one number per window, as (batch, 1)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, 1) for x (batch, n_chans, n_times)."""
        y: torch.Tensor = self.network(x)
        return y.unsqueeze(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A copy of the caller's module, and what its graph's provenance says of it.

    Parameters
    ----------
    built : Built
        The copy, in float32 on the CPU, in evaluation mode, with its specs.
    digest : str
        SHA-256 over the names and numbers of its state.
    name : str
        Of its class.
    """

    built: Built
    digest: str
    name: str


def prepared(module: Any, example: Any, stated: Mapping[str, Any]) -> Subject:
    """Return a copy of a module with the specs that its example and its answer give.

    Parameters
    ----------
    module : torch.nn.Module
        Trained; in whatever mode, on whatever device.
    example : array, tensor, InputSpec, WindowSet or mne.Epochs
        Windows (batch, n_chans, n_times) that it takes: their numbers do not matter.
    stated : mapping
        What the caller says besides.

    Raises
    ------
    InputError
        Where it is no module with weights, or the example is none.
    ExportError
        Where it cannot be copied, fails on the example, or gives no (batch, n_outputs).
    """
    module = _inner(module)
    spec = example_spec(example)
    spec = _with_stated(spec, stated)
    _require_weights(module)
    with _aside():
        network = _copied(module)
        digest = _digest(network)
        quirks = _to_float32(network)
        _drop_idle_hooks(network, spec)
        built = _with_outputs(network, spec, quirks)
    return Subject(built=built, digest=digest, name=type(module).__name__)


def _with_stated(spec: InputSpec, stated: Mapping[str, Any]) -> InputSpec:
    """Return the example's spec with what the caller says of it."""
    said = {key: stated[key] for key in ("unit", "sfreq") if stated.get(key)}
    said |= {"ch_names": listed(stated["ch_names"])} if stated.get("ch_names") else {}
    for key, value in said.items():
        mine = getattr(spec, key)
        if mine and mine != value:
            raise InputError(f"the example says that its {key} is {mine}, not {value}", hint=f"leave {key}= out")
    return dataclasses.replace(spec, **said)


def run_here(subject: Subject, folder: Path) -> tuple[int, str]:
    """Do the job in `folder` as the child of an export does, in this process."""
    job = json.loads((folder / "job.json").read_text("utf-8"))
    with _aside():
        module, built, facts = ready(subject.built, job)
        facts |= {"network": subject.name, "no_numbers": no_numbers(built.network.state_dict())}
        result = perform(Work(folder=folder, job=job, module=module, built=built, facts=facts))
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
    return 0, ""


def _inner(module: Any) -> nn.Module:
    """Return the module itself, out of what torch.compile and DataParallel put around it."""
    if hasattr(module, "module_") and not isinstance(module, nn.Module):
        raise InputError(
            f"a {type(module).__name__} holds its network as module_", hint="rtserve.export(net.module_, example)"
        )
    if isinstance(module, type) and issubclass(module, nn.Module):
        raise InputError(f"{module.__name__} is a class, not a network with weights", hint="give the trained instance")
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError("a TorchScript module has no Python to export", hint="give the module that it was made of")
    while isinstance(inner := getattr(module, "_orig_mod", None), nn.Module) or (
        isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel)
        and isinstance(inner := module.module, nn.Module)
    ):
        module = inner
    return module


def _require_weights(module: nn.Module) -> None:
    values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    lazy = [name for name, value in values.items() if is_lazy(value)]
    if lazy:
        raise InputError(
            f"{len(lazy)} lazy parts of the module have no weights yet ({', '.join(lazy[:4])})",
            hint="call it on windows once, and train it, before it is exported: module(example)",
        )
    absent = [name for name, value in values.items() if value.device.type == "meta"]
    if absent:
        raise InputError(
            f"{len(absent)} tensors of the module are on the meta device ({', '.join(absent[:4])}): it has no weights",
            hint="make it on the CPU, or load its weights: load_state_dict(state, assign=True)",
        )


def _copied(module: nn.Module) -> nn.Module:
    """Return a copy on the CPU, in evaluation mode; tensors that know how they were computed forget it in the copy."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, memo).cpu().eval()
    except Exception as error:
        raise ExportError(
            f"the network cannot be copied, and is asked in copies: {' '.join(str(error).split())[:200]}",
            hint="keep locks, files and open sessions outside of it, or give it a __deepcopy__",
        ) from None


def _digest(network: nn.Module) -> str:
    found = hashlib.sha256()
    for key, value in network.state_dict().items():
        if isinstance(value, torch.Tensor):
            flat = value.detach().contiguous().reshape(-1)
            found.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            found.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return found.hexdigest()


def _to_float32(network: nn.Module) -> tuple[Quirk, ...]:
    """Bring a network of another precision to float32, which a graph computes in; return what is to be said of it."""
    values = [*network.parameters(), *network.buffers()]
    kinds = sorted({str(v.dtype).removeprefix("torch.") for v in values if v.is_floating_point()} - {"float32"})
    if not kinds:
        return ()
    network.float()
    reason = f"its numbers are {', '.join(kinds)}; a graph computes in float32, and is compared with them in that"
    return (Quirk(name="float32", reason=reason),)


def _drop_idle_hooks(network: nn.Module, spec: InputSpec) -> None:
    """Take hooks off the copy that change no answer: what they note down for the caller shall not be of an export."""
    hooked = [part for part in network.modules() if part._forward_hooks or part._forward_pre_hooks]
    idle = [
        (hooks, key)
        for part in hooked
        for hooks in (part._forward_hooks, part._forward_pre_hooks)
        for key, hook in hooks.items()
        if not _of_torch(hook)
    ]
    if not idle:
        return
    x = example_input(Built(network=network, input_spec=spec, output_spec=OutputSpec()))
    kept = [(hooks, dict(hooks)) for hooks, _ in idle]
    with torch.no_grad(), named_errors(ExportError, f"the network fails on {tuple(x.shape)}", SHAPES):
        with_hooks = copy.deepcopy(network)(x.clone())
        for hooks, key in idle:
            del hooks[key]
        without = copy.deepcopy(network)(x.clone())
    if not (
        isinstance(without, torch.Tensor) and isinstance(with_hooks, torch.Tensor) and torch.equal(with_hooks, without)
    ):
        for hooks, entries in kept:
            hooks.clear()
            hooks.update(entries)


def _of_torch(hook: Any) -> bool:
    """Whether a hook is one that torch computes weights in (weight_norm, spectral_norm, pruning), or rtserve scales with."""
    place = getattr(hook, "__module__", None) or type(hook).__module__
    return str(place).startswith(("torch.", "rtserve."))


def _with_outputs(network: nn.Module, spec: InputSpec, quirks: tuple[Quirk, ...]) -> Built:
    """Return the network with how many numbers it gives per window, seen on windows of the example's size."""
    trial = Built(network=network, input_spec=spec, output_spec=OutputSpec())
    x = example_input(trial)
    with torch.no_grad(), named_errors(ExportError, f"the network fails on {tuple(x.shape)}", SHAPES):
        y = copy.deepcopy(network)(x)
    if isinstance(y, tuple | list | dict) or not isinstance(y, torch.Tensor):
        raise ExportError(
            f"the network gives a {type(y).__name__}, not a tensor (batch, n_outputs)",
            hint="wrap it in a module whose forward returns the one tensor that is its answer",
        )
    if y.shape == (EXAMPLE_BATCH,):
        quirk = Quirk(name="column", reason="it gives (batch,): the graph gives (batch, 1)")
        return dataclasses.replace(trial, quirks=(*quirks, quirk), wrap=Column)
    if y.dim() != 2 or len(y) != EXAMPLE_BATCH:
        raise ExportError(
            f"the network gives {tuple(y.shape)} for {tuple(x.shape)}, not (batch, n_outputs)",
            hint="wrap it in a module whose forward brings the answer to one row of numbers per window",
        )
    return dataclasses.replace(trial, quirks=quirks, output_spec=OutputSpec(n_outputs=int(y.shape[1])))


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Let an export meet torch as a fresh process would, and leave it as it was found; what is printed is not shown."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ONE_AT_A_TIME)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.device("cpu"))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(logging.disable, logging.root.manager.disable)
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        yield

"""The child process of an export: it builds the network, exports it, and computes what the graph must answer.

The torch exporter can crash, hang or take minutes, and an exporter file is somebody's code; both stay in here.
Called as ``python -m rtserve.graphs.export_child FOLDER`` with ``job.json`` in the folder; leaves ``raw.onnx``,
``probes.npz`` and ``result.json`` there. An error it understands is in ``result.json`` under ``error``.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rtserve.errors import CheckpointError, ExportError, InputError, RtserveError
from rtserve.graphs.answers import answer_windows
from rtserve.graphs.architecture import architecture_digest
from rtserve.graphs.behaviour import coupling, require_steady
from rtserve.graphs.checkpoint import Checkpoint, load_checkpoint
from rtserve.graphs.exporter import RUNS_CODE, Built, FileExporter, HubExporter, Quirk, resolve_exporter
from rtserve.graphs.factory import as_exporter
from rtserve.graphs.fit import Loaded, load_weights, run_lazy_parts
from rtserve.graphs.graph import OPSET
from rtserve.graphs.library import library_answers
from rtserve.graphs.meaning import completed, is_ours, scaling_beside, training_of
from rtserve.graphs.own_input import OwnInput, require_copyable, writes_over_input
from rtserve.graphs.parity import probe_inputs
from rtserve.graphs.rounding import expected_error
from rtserve.graphs.weights import exporter_shapes
from rtserve.spec import TRAINED_ON

REFERENCE = "reference windows"
"""The probe whose answers travel in the graph."""
EXAMPLE_BATCH = 3
"""Not 1 and not 2: the exporter specialises those, and reports success."""


def build(job: Mapping[str, Any]) -> tuple[nn.Module, Built, dict[str, Any]]:
    """Build the network, load the weights, and return the module to export with what is known about it."""
    settings = job["settings"]
    found = resolve_exporter(job["exporter"])
    reads_file = isinstance(found, FileExporter) and job["checkpoint"] != ""
    named = job["checkpoint"] if not reads_file else ""
    checkpoint = load_checkpoint(named, weights=job.get("weights", "")) if named else None
    torch.manual_seed(job.get("seed", 0))
    shapes = exporter_shapes(checkpoint.state_dict) if checkpoint else {}
    with named_errors(
        InputError, f"exporter {job['exporter_name']} cannot build its network", "check it, and its --set"
    ):
        if isinstance(found, FileExporter) and reads_file:
            built = found.build(_allowed(job), settings)
        elif job.get("hub"):
            built = _hub_exporter(found, job).build(job["hub"], settings)
        else:
            built = as_exporter(found, checkpoint.content if checkpoint else {})(shapes, settings)
    if not isinstance(built, Built):
        kind = type(built).__name__
        raise InputError(f"exporter {job['exporter_name']} gives a {kind}, not a Built", hint="see exporters/README.md")
    return ready(built, job, checkpoint)


def _hub_exporter(found: Any, job: Mapping[str, Any]) -> HubExporter:
    """Return the exporter if it takes class and arguments from a config.json; raise `InputError` where it does not."""
    if isinstance(found, HubExporter):
        return found
    raise InputError(
        f"exporter {job['exporter_name']} does not read a config.json",
        hint="leave --exporter out, or name the file with the weights instead of its folder; --network names the class",
    )


def ready(
    built: Built, job: Mapping[str, Any], checkpoint: Checkpoint | None = None
) -> tuple[nn.Module, Built, dict[str, Any]]:
    """Load the weights into what an exporter gives, and return the module to export with what is known about it."""
    network, spec, loaded = built.network, built.input_spec, Loaded()
    run_lazy_parts(network, torch.zeros(2, spec.n_chans, spec.n_times))
    if checkpoint is not None:
        name = f"{type(network).__name__} built by {job['exporter_name']}"
        loaded = load_weights(network, checkpoint.state_dict, name=name)
    module = (built.wrap(network) if built.wrap else network).eval()
    still_training = [name for name, part in module.named_modules() if part.training]
    if still_training:
        raise ExportError(
            f"{len(still_training)} parts stay in training mode after eval():"
            f" {', '.join(name or type(module).__name__ for name in still_training[:5])}",
            hint="a module that overrides train() or eval() must pass it on to its parts",
        )
    inputs, outputs = completed(built, checkpoint.content if checkpoint else {}, job.get("stated", {}))
    built = dataclasses.replace(built, input_spec=inputs)  # windows to compare on are of the size of its unit
    facts = {
        "network": type(network).__name__,
        "n_parameters": sum(p.numel() for p in (network.buffers() if built.own else network.parameters())),
        "architecture": architecture_digest(
            {key: tuple(value.shape) for key, value in network.state_dict().items() if isinstance(value, torch.Tensor)}
        ),
        TRAINED_ON: checkpoint.trained_on if checkpoint else None,
        "quirks": [dataclasses.asdict(quirk) for quirk in built.quirks],
        "weights": ".".join(filter(None, (checkpoint.found_at if checkpoint else "", loaded.prefix.rstrip(".")))),
        "left_out": list(loaded.left_out),
        "input": inputs.to_json(),
        "output": outputs.to_json(),
        "training": training_of(checkpoint.content) if checkpoint else {},
        "scaling": scaling_beside(checkpoint.riders) if checkpoint and not is_ours(checkpoint.content) else [],
        "no_numbers": no_numbers(checkpoint.state_dict if checkpoint else {}),
    }
    return module, built, facts


def no_numbers(state: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the tensors of a checkpoint that hold NaN or Inf, each with how many of how many."""
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    odd = {key: int((~torch.isfinite(value)).sum()) for key, value in tensors.items() if value.dtype.is_floating_point}
    return [f"{key} ({count} of {state[key].numel()})" for key, count in odd.items() if count]


def require_numbers(arrays: Mapping[str, np.ndarray], odd: list[str], job: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` where a network answers noise with no number because its weights are none.

    A mask may hold Inf with good reason, so that weights alone say nothing.
    """
    noise = [i for i, name in enumerate(arrays["names"]) if not str(name).startswith("window-shaped")]
    name = Path(job["checkpoint"]).name or "the module"
    if odd and not all(np.isfinite(arrays[f"y{i}"]).all() for i in noise):
        listed = ", ".join(odd[:4]) + (f" and {len(odd) - 4} more tensors" if len(odd) > 4 else "")
        raise CheckpointError(
            f"the weights in {name} are NaN or Inf in {listed}; the network answers no number",
            hint="its training diverged: take a checkpoint from before that, or train with a smaller learning rate",
        )


def _allowed(job: Mapping[str, Any]) -> Path:
    """Return the file whose own library shall load it, which runs the code in it; raise where this process may not."""
    path = Path(job["checkpoint"])
    if not job.get("isolated"):
        raise InputError(
            f"{path.name} is loaded by its own library, which runs the code in it: that is done in a sandbox only",
            hint=f"`rtserve export` sets one up for files named {', '.join(RUNS_CODE)}; --trusted does without",
        )
    return path


@contextlib.contextmanager
def named_errors(kind: type[RtserveError], what: str, hint: str) -> Iterator[None]:
    """Turn whatever somebody's code raises into our error, with the line of theirs it came from."""
    try:
        yield
    except RtserveError:
        raise
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
        line = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames[1:] else ""
        reason = " ".join(str(error).split())[:300]
        raise kind(f"{what}: {type(error).__name__}: {reason}{line}", hint=hint) from error


def example_input(built: Built) -> torch.Tensor:
    """Return the input the network is traced with, (3, n_chans, n_times)."""
    spec = built.input_spec
    return torch.randn(EXAMPLE_BATCH, spec.n_chans, spec.n_times, generator=torch.Generator().manual_seed(0))


def require_output(module: nn.Module, built: Built) -> None:
    """Raise `ExportError` where the module does not run, or does not give (batch, n_outputs)."""
    example = example_input(built)
    what = f"the network fails on {tuple(example.shape)}"
    with named_errors(ExportError, what, "do the settings fit the checkpoint?"), torch.inference_mode():
        # A copy: a network may keep something of the first windows that it ever sees.
        got = copy.deepcopy(module)(example * 1e-5 if built.input_spec.unit == "V" else example)
    wanted = (EXAMPLE_BATCH, built.output_spec.n_outputs)
    if not isinstance(got, torch.Tensor) or tuple(got.shape) != wanted:
        shape = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
        raise ExportError(
            f"the network gives {shape} for {EXAMPLE_BATCH} windows, not {wanted}",
            hint="the exporter's wrap must give (batch, n_outputs); check n_outputs",
        )


@contextlib.contextmanager
def small_constants_kept() -> Iterator[None]:
    """Take the exporter's rules away that drop ``x + c`` for c within 1e-8 of 0 and ``x * c`` for c within 1e-5 of 1.

    A z-score's ``std + 1e-8`` would go, and a flat channel would then answer NaN.
    """
    try:  # names private to onnxscript; parity guards what they guard
        from onnxscript import rewriter
        from onnxscript.rewriter.rules.common import _no_op

        all_rules, dropped = rewriter._DEFAULT_REWRITE_RULES, {id(rule) for rule in _no_op.rules}
    except (ImportError, AttributeError):
        yield
        return
    rewriter._DEFAULT_REWRITE_RULES = tuple(rule for rule in all_rules if id(rule) not in dropped)
    try:
        yield
    finally:
        rewriter._DEFAULT_REWRITE_RULES = all_rules


@contextlib.contextmanager
def _batch_statistics_written_out() -> Iterator[None]:
    """Let `F.batch_norm` in training mode be traced as the means that it is: the exporter takes the stored ones."""
    original = torch.nn.functional.batch_norm

    def batch_norm(x: torch.Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
                   training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> torch.Tensor:  # fmt: skip
        if not training:
            return original(x, running_mean, running_var, weight, bias, False, momentum, eps)
        axes, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
        centred = x - x.mean(axes, keepdim=True)
        y = centred / torch.sqrt((centred * centred).mean(axes, keepdim=True) + eps)
        y = y * weight.reshape(shape) if weight is not None else y
        return y + bias.reshape(shape) if bias is not None else y

    torch.nn.functional.batch_norm = batch_norm
    try:
        yield
    finally:
        torch.nn.functional.batch_norm = original


def export_module(module: nn.Module, built: Built, path: Path) -> None:
    """Write the raw ONNX of `module` with a symbolic batch."""
    with small_constants_kept(), _batch_statistics_written_out():
        program = torch.onnx.export(
            module,
            (example_input(built),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
            opset_version=OPSET,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def _exported(module: nn.Module, built: Built, path: Path) -> list[dict[str, Any]]:
    """Write the raw ONNX; where the exporter cannot take a parametrization, of the tensor that it gives.

    Returns
    -------
    list of dict
        The quirk, where that was needed: the network that is compared keeps its parametrizations.
    """
    try:
        export_module(module, built, path)
    except Exception:
        fixed = without_parametrizations(module)
        if fixed is None:
            raise
        export_module(fixed, built, path)
        reason = "parametrized tensors are constant in evaluation; the torch exporter cannot take what makes them"
        return [dataclasses.asdict(Quirk(name="parametrizations", reason=reason))]
    return []


def without_parametrizations(module: nn.Module) -> nn.Module | None:
    """Return a copy whose parametrized tensors (orthogonal, say) are plain ones; None where it has none."""
    from torch.nn.utils import parametrize

    fixed = copy.deepcopy(module)
    parts = [part for part in fixed.modules() if parametrize.is_parametrized(part)]
    for part in parts:  # remove_parametrizations() would take the tensor from the class, which the original shares
        with torch.no_grad():
            given = {name: getattr(part, name).clone() for name in part.parametrizations}
        part.__class__ = parametrize.type_before_parametrizations(part)
        del part.parametrizations
        for name, value in given.items():
            part.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return fixed if parts else None


def reference_outputs(module: nn.Module, built: Built, seed: int, *, alone: bool) -> tuple[dict[str, np.ndarray], str]:
    """Return probe inputs with the module's float64 and float32 answers, what rounding costs, and which is the reference.

    `alone` says whether a window's answer depends on no other window of its batch.
    """
    probes = probe_inputs(built.input_spec, seed=seed)
    double, precision = copy.deepcopy(module).double(), "torch float64"
    probes.append((REFERENCE, answer_windows(built.input_spec)))
    arrays: dict[str, np.ndarray] = {"names": np.array([name for name, _ in probes])}
    for index, (_, x) in enumerate(probes):
        single = torch.from_numpy(x)
        with torch.inference_mode():
            own = module(single)
            if precision == "torch float64":
                try:
                    truth = double(single.double())
                except Exception:
                    precision = "torch float32 (the network does not run in float64)"
            if precision != "torch float64":
                truth = own
        call, given = (double, single.double()) if precision == "torch float64" else (module, single)
        y = truth.double().numpy()
        arrays |= {f"x{index}": x, f"y{index}": y, f"own{index}": own.numpy()}
        arrays[f"rounding{index}"] = np.array(expected_error(call, given, y, alone=alone))
    return arrays, precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What is left of a job once its module is built: to look at it, to ask it, and to write it down in `folder`."""

    folder: Path
    job: Mapping[str, Any]
    module: nn.Module
    built: Built
    facts: dict[str, Any]


def run(folder: Path) -> dict[str, Any]:
    """Do the job in `folder` and return the result."""
    job = json.loads((folder / "job.json").read_text("utf-8"))
    module, built, facts = build(job)
    return perform(Work(folder=folder, job=job, module=module, built=built, facts=facts))


def perform(work: Work) -> dict[str, Any]:
    """Ask the module, write ``probes.npz`` and ``raw.onnx``, and return the result."""
    folder, module, built, facts = work.folder, work.module, work.built, work.facts
    require_copyable(module)
    require_output(module, built)
    if built.own is None and writes_over_input(module, example_input(built)):
        module = OwnInput(module)
        reason = "its forward writes over the windows it is given; it is given a copy"
        facts["quirks"].append(dataclasses.asdict(Quirk(name="own-input", reason=reason)))
    require_steady(module, built.input_spec)
    facts["coupled"] = coupling(module, built.input_spec)
    with (
        torch.no_grad(),
        named_errors(ExportError, "the network fails on a probe input", "it must take any batch and scale"),
    ):
        if built.own is None:
            arrays, facts["reference"] = reference_outputs(module, built, seed=0, alone=not facts["coupled"])
        else:
            inputs = [*probe_inputs(built.input_spec), (REFERENCE, answer_windows(built.input_spec))]
            arrays, facts["reference"] = library_answers(module, built, inputs)
    require_numbers(arrays, facts.pop("no_numbers"), work.job)
    np.savez(folder / "probes.npz", **arrays)  # type: ignore[arg-type]
    try:
        facts["quirks"] += _exported(module, built, folder / "raw.onnx")
    except RtserveError:
        raise
    except Exception as error:
        lines = [line for line in str(error.__cause__ or error).splitlines() if line.strip()]
        reason = " ".join((lines or [""])[0].split())[:300]
        raise ExportError(
            f"the torch exporter failed: {type(error).__name__}: {reason}",
            hint="a quirk in its exporter can rewrite what cannot be exported; see exporters/README.md",
        ) from error
    return facts | {"torch": torch.__version__.partition("+")[0]}


def main() -> None:
    """Run the job of the folder on the command line; leave the outcome in result.json."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        try:
            result: dict[str, Any] = run(folder)
        except RtserveError as error:
            result = {"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}}
    (folder / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()

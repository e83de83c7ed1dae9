"""`Graph`: an ONNX model with its specs and its ancestry, as one value.

An exported graph and a fused one are the same type; the provenance tells them apart. Specs and provenance ride in the
model's ``metadata_props`` under ``rtserve.*``, so a file needs no companion to be understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import InputError
from rtserve.files import readable_file, sha256_bytes, write_bytes
from rtserve.graphs.answers import Answers
from rtserve.graphs.stages import Stages
from rtserve.spec import InputSpec, OutputSpec, Provenance

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["INPUT_NAME", "IR_VERSION", "OPSET", "OUTPUT_NAME", "STREAM_KEY", "Graph", "as_graph", "read_proto"]

OPSET = 20
IR_VERSION = 9
"""The lowest IR version that may say opset 20 (onnx's table of versions): every onnxruntime since 1.17 loads it."""
INPUT_NAME = "x"
OUTPUT_NAME = "y"
STREAM_KEY = "rtserve.stream"
"""Under which a step graph says its hop."""
_KEYS = {key: f"rtserve.{key}" for key in ("input", "output", "provenance", "answers", "stages")}


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A network as ONNX: one float32 input (batch, n_chans, n_times), one output (batch, n_outputs).

    Parameters
    ----------
    model : onnx_ir.Model
        The graph itself. Treat it as read-only; passes work on a copy (`clone_model`).
    input_spec, output_spec : InputSpec, OutputSpec
        Shapes, rate, unit and target.
    provenance : Provenance
        Where it came from.
    answers : Answers or None
        What it must answer to a few windows; None where that was never found (a graph made elsewhere).
    stages : Stages or None
        What it computes step by step, recorded when it was fused; `rtserve.graphs.stages.stages_of` has them for any graph.
    """

    model: ir.Model
    input_spec: InputSpec
    output_spec: OutputSpec
    provenance: Provenance
    answers: Answers | None = None
    stages: Stages | None = None

    def __repr__(self) -> str:
        from rtserve.graphs.show import graph_line

        return graph_line(self)

    def _repr_html_(self) -> str:
        from rtserve.graphs.show import graph_card

        return graph_card(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the ONNX file's bytes, which hold all of it."""
        return Graph.from_bytes, (self.to_bytes(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        """Return the graph itself: it is never changed."""
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`: the name of exactly this graph."""
        return sha256_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the ONNX file's bytes; equal graphs give equal bytes."""
        import onnx_ir as ir

        for key in ("answers", "stages"):
            self.model.metadata_props.pop(_KEYS[key], None)
        for key, value in self.metadata().items():
            self.model.metadata_props[key] = value
        return bytes(ir.serde.serialize_model(self.model).SerializeToString(deterministic=True))

    def metadata(self) -> dict[str, str]:
        """Return the ``rtserve.*`` properties that travel in the file."""
        carried = {"answers": self.answers, "stages": self.stages}
        return {
            _KEYS["input"]: self.input_spec.to_json(),
            _KEYS["output"]: self.output_spec.to_json(),
            _KEYS["provenance"]: self.provenance.to_json(),
        } | {_KEYS[key]: one.to_json() for key, one in carried.items() if one is not None}

    @property
    def fixed_batch(self) -> int:
        """The one batch size that the graph takes, or 0 where it takes any."""
        shape = next(v for v in self.model.graph.inputs if v.name not in self.model.graph.initializers).shape
        first = shape[0] if shape is not None else None
        return first if isinstance(first, int) and first > 0 else 0

    def hint_for(self, shape: tuple[int, ...]) -> str:
        """Return what to look at where an engine fails on windows of a shape (batch, n_chans, n_times)."""
        spec, batch = self.input_spec, self.fixed_batch
        if tuple(shape[1:]) != (spec.n_chans, spec.n_times):
            return f"it takes windows of {spec.n_chans} channels and {spec.n_times} samples"
        if batch not in (0, *shape[:1]):
            return f"it takes {batch} windows at once; make it take any batch: rtserve annotate FILE -o NEW.onnx"
        return (
            "the windows fit: does a step of the network hold on to another batch (rtserve annotate FILE -o NEW.onnx finds"
            " it)? Else write the operator that is named in another form in the network"
        )

    @property
    def coupling(self) -> str:
        """How its answer to a window depends on the rest of the batch, as it says itself; empty where it does not say so."""
        told = str(self.provenance.details.get("coupled") or "") or "as its export found"
        return told if self.output_spec.coupled else ""

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the ONNX file whole or not at all; see `rtserve.files.replacing`."""
        return write_bytes(path, self.to_bytes(), force=force)

    def clone_model(self) -> ir.Model:
        """Return a copy of the model that may be changed; the numbers in its tensors are not copied."""
        return self.model.clone()

    @property
    def n_parameters(self) -> int:
        """Numbers stored in float initializers."""
        return sum(
            int(value.const_value.size)
            for value in self.model.graph.initializers.values()
            if value.const_value is not None and value.const_value.dtype.is_floating_point()
        )

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """Read an ONNX file, ours or anybody's.

        Raises
        ------
        InputError
            Where the file is no ONNX model, or its input and output do not fit a network for EEG windows.
        """
        path = readable_file(path, "graph")
        return cls.from_bytes(path.read_bytes(), name=str(path), folder=path.parent)

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str = "graph", folder: Path | None = None) -> Graph:
        """Read ONNX bytes; `name` is what errors call them, `folder` where weights kept beside the file are looked for.

        Raises as `load`.
        """
        import onnx_ir as ir

        try:
            model = ir.serde.deserialize_model(read_proto(data, folder))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{name} is not an ONNX model ({reason})", hint="make one with `rtserve export`") from None
        return cls.from_model(model, name=name)

    @classmethod
    def from_model(cls, model: ir.Model, *, name: str = "graph") -> Graph:
        """Wrap a model; specs come from its metadata, or from its shapes where it has none. Raises as `load`."""
        (_, n_chans, n_times), (_, n_outputs) = _shapes(model, name)
        props = model.metadata_props
        producer = f"{model.producer_name or ''} {model.producer_version or ''}".strip()
        inputs = InputSpec(n_chans=n_chans, n_times=n_times)
        outputs = OutputSpec(n_outputs=n_outputs)
        provenance = Provenance(kind="foreign", details={"producer": producer})
        try:
            if _KEYS["input"] in props:
                inputs = InputSpec.from_json(props[_KEYS["input"]])
            if _KEYS["output"] in props:
                outputs = OutputSpec.from_json(props[_KEYS["output"]])
            if _KEYS["provenance"] in props:
                provenance = Provenance.from_json(props[_KEYS["provenance"]])
            answers = Answers.from_json(props[_KEYS["answers"]]) if _KEYS["answers"] in props else None
        except InputError as error:
            raise InputError(f"{name}: {error.message}", hint=error.hint) from None
        if (inputs.n_chans, inputs.n_times, outputs.n_outputs) != (n_chans, n_times, n_outputs):
            raise InputError(
                f"{name} says it takes {inputs} and gives {outputs}, but its shapes are {n_chans} x {n_times} and"
                f" {n_outputs}",
                hint="the file was edited; export it again",
            )
        stages = Stages.from_json(props[_KEYS["stages"]]) if _KEYS["stages"] in props else None
        return cls(
            model=model, input_spec=inputs, output_spec=outputs, provenance=provenance, answers=answers, stages=stages
        )


def as_graph(graph: Graph | str | Path) -> Graph:
    """Return a graph, read from its file where a path was given.

    Raises
    ------
    InputError
        As `Graph.load`, and where it is neither of the two.
    """
    if isinstance(graph, Graph):
        return graph
    if isinstance(graph, str | Path):
        return Graph.load(graph)
    module = any(base.__module__.startswith("torch.nn") for base in type(graph).__mro__)
    raise InputError(
        f"a {type(graph).__name__} is no graph",
        hint=f"{'export it first' if module else 'make one'}: graph = rtserve.export(module, example); or name its file",
    )


def read_proto(data: bytes, folder: Path | None) -> onnx.ModelProto:
    """Parse a model, bring in weights kept in files beside it, and infer an output shape that is not declared."""
    import onnx

    proto = onnx.load_model_from_string(data)
    if not proto.graph.output:
        raise ValueError("there is no graph in it")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        if folder is None:
            raise ValueError("its weights are in another file")
        onnx.load_external_data_for_model(proto, str(folder))
    if not all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
        proto = onnx.shape_inference.infer_shapes(proto)
    return proto


def _shapes(model: ir.Model, name: str) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Return (batch, n_chans, n_times) and (batch, n_outputs) with 0 for a symbolic batch."""
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    outputs = list(model.graph.outputs)
    hint = "rtserve takes graphs with one input (batch, n_chans, n_times) and one output (batch, n_outputs)"
    if STREAM_KEY in model.metadata_props:
        raise InputError(
            f"{name} is the step of a stream ({model.metadata_props[STREAM_KEY]}), not a window's graph",
            hint="hand over the graph that it was made of; rtserve.streaming.runner.StepRunner runs a step",
        )
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(f"{name} has {len(inputs)} inputs and {len(outputs)} outputs", hint=hint)
    return _dims(inputs[0], 3, f"the input of {name}", hint), _dims(outputs[0], 2, f"the output of {name}", hint)  # type: ignore[return-value]


def _dims(value: ir.Value, rank: int, what: str, hint: str) -> tuple[int, ...]:
    shape = value.shape
    if shape is not None and len(shape) == rank == 3 and not all(isinstance(dim, int) for dim in list(shape)[1:]):
        hint += f"; say its sizes: rtserve annotate {what.rpartition(' of ')[2]} --n-chans C --n-times T -o NEW.onnx"
    if shape is None or len(shape) != rank or not all(isinstance(dim, int) for dim in list(shape)[1:]):
        raise InputError(f"{what} has shape {shape}, not {rank} dimensions known but for the batch", hint=hint)
    return tuple(dim if isinstance(dim, int) else 0 for dim in shape)

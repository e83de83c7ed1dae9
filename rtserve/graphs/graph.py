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
from rtserve.spec import InputSpec, OutputSpec, Provenance

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["INPUT_NAME", "IR_VERSION", "OPSET", "OUTPUT_NAME", "Graph"]

OPSET = 20
IR_VERSION = 10
"""onnx's own defaults are newer than what runtimes load; these two load in onnxruntime >= 1.17 and OpenVINO."""
INPUT_NAME = "x"
OUTPUT_NAME = "y"
_KEYS = {"input": "rtserve.input", "output": "rtserve.output", "provenance": "rtserve.provenance"}


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
    """

    model: ir.Model
    input_spec: InputSpec
    output_spec: OutputSpec
    provenance: Provenance

    @property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`: the name of exactly this graph."""
        return sha256_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the ONNX file's bytes; equal graphs give equal bytes."""
        import onnx_ir as ir

        for key, value in self.metadata().items():
            self.model.metadata_props[key] = value
        return bytes(ir.serde.serialize_model(self.model).SerializeToString(deterministic=True))

    def metadata(self) -> dict[str, str]:
        """Return the ``rtserve.*`` properties that travel in the file."""
        return {
            _KEYS["input"]: self.input_spec.to_json(),
            _KEYS["output"]: self.output_spec.to_json(),
            _KEYS["provenance"]: self.provenance.to_json(),
        }

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the ONNX file whole or not at all; see `rtserve.files.replacing`."""
        return write_bytes(path, self.to_bytes(), force=force)

    def clone_model(self) -> ir.Model:
        """Return a deep copy of the model that may be changed."""
        import onnx_ir as ir

        return ir.serde.deserialize_model(ir.serde.serialize_model(self.model))

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
        return cls.from_bytes(path.read_bytes(), name=str(path))

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str = "graph") -> Graph:
        """Read ONNX bytes; `name` is what errors call them. Raises as `load`."""
        import onnx
        import onnx_ir as ir
        from google.protobuf.message import DecodeError

        try:
            proto = onnx.load_model_from_string(data)
            if not proto.graph.output:
                raise DecodeError("no graph in it")
            model = ir.serde.deserialize_model(proto)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{name} is not an ONNX model ({reason})", hint="make one with `rtserve export`") from None
        return cls.from_model(model, name=name)

    @classmethod
    def from_model(cls, model: ir.Model, *, name: str = "graph") -> Graph:
        """Wrap a model; specs come from its metadata, or from its shapes where it has none. Raises as `load`."""
        props: Any = model.metadata_props
        shape_in, shape_out = _shapes(model, name)
        if _KEYS["input"] in props:
            input_spec = InputSpec.from_json(props[_KEYS["input"]])
        else:
            input_spec = InputSpec(n_chans=shape_in[1], n_times=shape_in[2], sfreq=100.0)
        output_spec = (
            OutputSpec.from_json(props[_KEYS["output"]])
            if _KEYS["output"] in props
            else OutputSpec(n_outputs=shape_out[1])
        )
        provenance = (
            Provenance.from_json(props[_KEYS["provenance"]])
            if _KEYS["provenance"] in props
            else Provenance(
                kind="foreign", details={"producer": f"{model.producer_name} {model.producer_version}".strip()}
            )
        )
        if (input_spec.n_chans, input_spec.n_times) != (shape_in[1], shape_in[2]):
            raise InputError(
                f"{name} says it takes {input_spec}, but its input is {shape_in[1]} x {shape_in[2]}",
                hint="the file was edited; export it again",
            )
        return cls(model=model, input_spec=input_spec, output_spec=output_spec, provenance=provenance)


def _shapes(model: ir.Model, name: str) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Return (batch, n_chans, n_times) and (batch, n_outputs) with 0 for a symbolic batch."""
    initializers = set(model.graph.initializers)
    inputs = [value for value in model.graph.inputs if value.name not in initializers]
    outputs = list(model.graph.outputs)
    hint = "rtserve takes graphs with one input (batch, n_chans, n_times) and one output (batch, n_outputs)"
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(f"{name} has {len(inputs)} inputs and {len(outputs)} outputs", hint=hint)
    return _dims(inputs[0], 3, f"the input of {name}", hint), _dims(outputs[0], 2, f"the output of {name}", hint)  # type: ignore[return-value]


def _dims(value: ir.Value, rank: int, what: str, hint: str) -> tuple[int, ...]:
    shape = value.shape
    if shape is None or len(shape) != rank or not all(isinstance(dim, int) for dim in list(shape)[1:]):
        raise InputError(f"{what} has shape {shape}, not {rank} dimensions known but for the batch", hint=hint)
    return tuple(dim if isinstance(dim, int) else 0 for dim in shape)

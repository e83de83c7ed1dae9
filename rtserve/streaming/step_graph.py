"""`StepGraph`: a window's graph as a step, hop after hop, with what it is the step of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rtserve.errors import InputError
from rtserve.files import canonical_json, readable_file, sha256_bytes, write_bytes
from rtserve.graphs.graph import INPUT_NAME, OUTPUT_NAME, STREAM_KEY, read_proto
from rtserve.spec import InputSpec, OutputSpec, Provenance

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NEXT", "StepGraph"]

NEXT = ".next"
"""What the output that holds a state's next value is called behind the state's name: ONNX gives a name to one value only,
so that the two cannot be called alike; the order is the same."""
_KEYS = ("rtserve.input", "rtserve.output", "rtserve.provenance", STREAM_KEY)


@dataclass(frozen=True, kw_only=True)
class StepGraph:
    """The step of a stream as ONNX: (new samples, states) in, (answer, next states) out.

    Parameters
    ----------
    model : onnx_ir.Model
        Inputs ``x`` (batch, n_chans, hop) and ``state.*``; outputs ``y`` (batch, n_outputs) and the next states in the
        same order. States are float32, hold zeros at the start, and have fixed shapes but for the batch.
    input_spec, output_spec : InputSpec, OutputSpec
        Of the window's graph: `n_times` is the window's.
    hop : int
        New samples of a step.
    provenance : Provenance
        Of which graph it is the step, by digest.
    """

    model: ir.Model
    input_spec: InputSpec
    output_spec: OutputSpec
    hop: int
    provenance: Provenance

    def __repr__(self) -> str:
        return (
            f"<StepGraph of {self.hop} new samples: {self.input_spec} -> {self.output_spec}; {len(self.states)} states>"
        )

    @property
    def first_answer(self) -> int:
        """The step, counted from 1, whose answer is the first that is a window's."""
        return -(-self.input_spec.n_times // self.hop)

    @property
    def states(self) -> list[tuple[str, tuple[int | str, ...]]]:
        """Name and shape of every state; the batch is a text."""
        shapes = [(str(v.name), tuple(v.shape or ())) for v in self.model.graph.inputs if v.name != INPUT_NAME]
        return [(name, tuple(dim if isinstance(dim, int) else str(dim) for dim in shape)) for name, shape in shapes]

    @property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`."""
        return sha256_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the ONNX file's bytes; equal steps give equal bytes."""
        import onnx_ir as ir

        told = canonical_json({"hop": self.hop, "window": self.input_spec.n_times})
        values = (self.input_spec.to_json(), self.output_spec.to_json(), self.provenance.to_json(), told)
        self.model.metadata_props.update(dict(zip(_KEYS, values, strict=True)))
        return bytes(ir.serde.serialize_model(self.model).SerializeToString(deterministic=True))

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the ONNX file whole or not at all."""
        return write_bytes(path, self.to_bytes(), force=force)

    @classmethod
    def load(cls, path: str | Path) -> StepGraph:
        """Read a step that `rtserve stream` wrote.

        Raises
        ------
        InputError
            Where it is none, or was edited.
        """
        import onnx_ir as ir

        path = readable_file(path, "step graph")
        try:
            model = ir.serde.deserialize_model(read_proto(path.read_bytes(), path.parent))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path} is not an ONNX model ({reason})", hint=_MAKE) from None
        props = model.metadata_props
        missing = [key for key in _KEYS if key not in props]
        if missing:
            raise InputError(f"{path} is no step graph: it lacks {', '.join(missing)}", hint=_MAKE)
        inputs, outputs = InputSpec.from_json(props[_KEYS[0]]), OutputSpec.from_json(props[_KEYS[1]])
        provenance = Provenance.from_json(props[_KEYS[2]])
        try:
            hop = int(json.loads(props[STREAM_KEY])["hop"])
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} does not say its hop: {props[STREAM_KEY]!r:.80}", hint=_MAKE) from None
        step = cls(model=model, input_spec=inputs, output_spec=outputs, hop=hop, provenance=provenance)
        step._require_its_form(path)
        return step

    def _require_its_form(self, path: Path) -> None:
        """Raise `InputError` unless inputs and outputs are those of a step of this hop, each state followed by its next."""
        inputs, outputs = list(self.model.graph.inputs), list(self.model.graph.outputs)
        said = [str(inputs[0].name), *list(inputs[0].shape or ())[1:]] if inputs else []
        wanted = [INPUT_NAME, self.input_spec.n_chans, self.hop]
        if said != wanted or len(inputs) != len(outputs) or outputs[0].name != OUTPUT_NAME:
            raise InputError(
                f"{path} says it takes {wanted}, but its first of {len(inputs)} inputs is {said}, and it has"
                f" {len(outputs)} outputs",
                hint=_MAKE,
            )
        for state, after in zip(inputs[1:], outputs[1:], strict=True):
            pair = [(str(one.name), one.dtype, [str(dim) for dim in one.shape or ()]) for one in (state, after)]
            if pair[1] != (f"{pair[0][0]}{NEXT}", *pair[0][1:]):
                raise InputError(
                    f"{path} has the state {pair[0][0]} {pair[0][2]}, and in its place among the outputs {pair[1][0]}"
                    f" {pair[1][2]}",
                    hint=_MAKE,
                )


_MAKE = "make one with `rtserve stream F.onnx --hop N -o S.onnx`"

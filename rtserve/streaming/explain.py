"""What a step shares with the one before, layer by layer, and where and why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtserve.streaming.columns import NONE
from rtserve.streaming.link import PICKED, Link, Whole
from rtserve.streaming.schedule import ALIAS, Schedule

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Layer", "layers_of", "why_not"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node of the window's graph, in a step.

    Parameters
    ----------
    name, op : str
        Its output and its operator.
    columns, computed, kept, elsewhere : int
        Moments that the window has of its output, those computed in a step, those that the state holds, and those that
        an earlier layer holds too; 0 columns for one behind a frontier.
    lag : int
        For how many steps the state holds them: 1, or one for each phase that the hop has in the layer's moments.
    macs_window, macs_step : int
        Multiply-adds.
    why : str
        Why it is computed anew, where it is.
    """

    name: str
    op: str
    columns: int = 0
    computed: int = 0
    kept: int = 0
    elsewhere: int = 0
    lag: int = 1
    macs_window: int
    macs_step: int
    why: str = ""


def layers_of(plan: Schedule) -> Iterator[Layer]:
    """Go through what a step does, in the order of the graph."""
    analysis = plan.analysis
    window = plan.parts.get(analysis.window)
    if window is not None and len(window.saved):
        yield Layer(name=str(analysis.window.name), op="samples", columns=analysis.n_times, computed=plan.hop,
                    kept=len(window.saved), macs_window=0, macs_step=0)  # fmt: skip
    for node in analysis.model.graph:
        link, out, macs = analysis.links.get(node), node.outputs[0], analysis.macs[node]
        if isinstance(link, Link):
            part = plan.parts.get(out)
            if link.kind == PICKED or part is None:
                continue
            yield Layer(
                name=str(out.name), op=node.op_type, columns=link.length, computed=part.n_fresh,
                kept=part.lag * len(part.saved), lag=part.lag, elsewhere=int((part.how == ALIAS).sum()), macs_window=macs,
                macs_step=round(macs * part.n_fresh / link.length), why=_why(plan, node, link),
            )  # fmt: skip
        elif isinstance(link, Whole) or macs:
            why = link.reason if isinstance(link, Whole) else "lies behind"
            yield Layer(name=str(out.name), op=node.op_type, macs_window=macs, macs_step=macs, why=why)


def _why(plan: Schedule, node: ir.Node, link: Link) -> str:
    """Return why all of a layer is computed, or kept for several steps; empty where neither is so."""
    part, earlier = plan.parts[node.outputs[0]], plan.common.earlier[node.outputs[0]]
    if part.lag > 1 and len(part.saved):
        return f"the hop is no multiple of its stride: one state for each of {part.lag} phases"
    if part.n_fresh < link.length:
        return ""
    if not (earlier != NONE).any():
        return "none of its moments was there a hop ago"
    return "not worth a state"


def why_not(plan: Schedule) -> str:
    """Return in a few words where sharing ends first."""
    for layer in layers_of(plan):
        if layer.why and layer.op != "samples":
            return (
                f"{layer.op} {layer.name} {layer.why}" if not layer.columns else f"{layer.op} {layer.name}: {layer.why}"
            )
    return "every layer needs what is new in all of the window"

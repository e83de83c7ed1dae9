"""Members of an ensemble computed together: what they share once, and what differs in its numbers alone as one product.

Affine members on the same features are one matrix; tangent spaces at several reference points of the same matrices
are one logarithm of a stack. So 54 LDAs cost about what one does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from riemann_steps import TangentSpace, tensor  # type: ignore[import-not-found]
from sklearn_steps import Affine, linked  # type: ignore[import-not-found]
from torch import Tensor, nn

__all__ = ["Concatenated", "Ensemble", "Unlinked", "chain_of"]


def _folded(steps: Sequence[nn.Module]) -> list[nn.Module]:
    """Return steps with affine ones that follow each other as one, and without those that do nothing."""
    out: list[Any] = []
    for step in steps:
        parts = list(step) if isinstance(step, nn.Sequential) else [step]
        for part in parts:
            if isinstance(part, nn.Identity):
                continue
            if out and isinstance(part, Affine) and isinstance(out[-1], Affine) and out[-1].link == "none":
                out[-1] = out[-1].followed_by(part)
            else:
                out.append(part)
    return out


def chain_of(steps: Sequence[nn.Module]) -> nn.Module:
    """Return steps one after the other, as one module."""
    return nn.Sequential(*_folded(steps))


class Unlinked(nn.Module):  # type: ignore[misc]
    """A network as it is, without what turns scores into probabilities: the same tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores."""
        parts = [part for part in self.network.modules() if getattr(part, "link", "none") not in ("none", "root")]
        links = [part.link for part in parts]
        try:
            for part in parts:
                part.link = "none"
            return self.network(x)
        finally:
            for part, link in zip(parts, links, strict=True):
                part.link = link


class Concatenated(nn.Module):  # type: ignore[misc]
    """Parts of the same input beside each other, each times its weight."""

    def __init__(self, parts: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.parts, self.weights = nn.ModuleList(parts), tuple(float(weight) for weight in weights)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, features of all parts)."""
        made = [part(x) for part in self.parts]
        return torch.cat([y if w == 1.0 else y * w for y, w in zip(made, self.weights, strict=True)], dim=-1)


def _print_of(step: nn.Module) -> str:
    """Return what two steps have in common when they compute the same."""
    digest = hashlib.sha256(type(step).__name__.encode())
    for _, part in step.named_modules():
        plain = {k: v for k, v in vars(part).items() if not k.startswith("_") and k != "training"}
        digest.update(repr(sorted(plain.items())).encode())
    for name, value in step.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}".encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _form_of(step: nn.Module) -> tuple[Any, ...]:
    """Return what steps must have in common to be stacked."""
    if isinstance(step, Affine):
        return ("affine", step.link, tuple(step.weight.shape))
    assert isinstance(step, TangentSpace)
    return ("tangent", step.metric, len(step.index))


def _tail(steps: Sequence[nn.Module]) -> int:
    """Return how many last steps of a member can be stacked with those of others: an affine head, a tangent space."""
    if not isinstance(steps[-1], Affine) or steps[-1].diagonal:
        return 0
    before = steps[-2] if len(steps) > 1 else None
    return 2 if isinstance(before, TangentSpace) and not before.several else 1


class Ensemble(nn.Module):  # type: ignore[misc]
    """The weighted mean of members' answers.

    Parameters
    ----------
    chains : sequence of sequence of Module
        The steps of each member.
    weights : sequence of float, optional
        Of the members; all alike by default.
    """

    def __init__(self, chains: Sequence[Sequence[nn.Module]], weights: Sequence[float] | None) -> None:
        super().__init__()
        share = np.ones(len(chains)) if weights is None else np.asarray(weights, dtype=np.float64)
        share = share / share.sum()
        self.steps = nn.ModuleList()
        self.parents: list[int] = []
        """For each step, the step it reads; -1 for the input."""
        self.leaves: list[tuple[int, str]] = []
        """Steps whose answers are averaged, and the buffer of their members' weights."""
        self.known: dict[tuple[int, str], int] = {}
        groups: dict[Any, list[tuple[list[nn.Module], float]]] = {}
        for number, (chain, weight) in enumerate(zip(chains, share, strict=True)):
            steps = _folded(chain)
            tail = steps[len(steps) - _tail(steps) :] if _tail(steps) else []
            parent = self._shared(steps[: len(steps) - len(tail)])
            key = (parent, *map(_form_of, tail)) if tail else (parent, number)
            groups.setdefault(key, []).append((tail, float(weight)))
        for (parent, *_), members in groups.items():
            self._leaf(self._shared(_stacked([tail for tail, _ in members]), parent), [w for _, w in members])

    def _shared(self, steps: Sequence[nn.Module], parent: int = -1) -> int:
        """Add steps that are not there yet behind `parent`; return the last."""
        for step in steps:
            key = (parent, _print_of(step))
            if key not in self.known:
                self.known[key] = len(self.steps)
                self.steps.append(step)
                self.parents.append(parent)
            parent = self.known[key]
        return parent

    def _leaf(self, step: int, weights: Sequence[float]) -> None:
        name = f"share{len(self.leaves)}"
        self.register_buffer(name, tensor(weights)[:, None] if len(weights) > 1 else tensor(weights))
        self.leaves.append((step, name))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs)."""
        values: list[Tensor] = []
        for step, parent in zip(self.steps, self.parents, strict=True):
            values.append(step(x if parent < 0 else values[parent]))
        total = None
        for step, name in self.leaves:
            share = self.get_buffer(name)
            part = values[step] * share
            part = part.sum(1) if share.ndim == 2 else part
            total = part if total is None else total + part
        assert total is not None
        return total


class Beside(nn.Module):  # type: ignore[misc]
    """Affine members on the same features, (batch, n) to (batch, m, k), as one product."""

    center: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, members: Sequence[Affine]) -> None:
        super().__init__()
        arrays = [member.arrays() for member in members]
        center = np.mean([c for c, _, _ in arrays], axis=0)
        self.link, self.shape = members[0].link, (len(members), arrays[0][1].shape[1])
        self.register_buffer("center", tensor(center))
        self.register_buffer("weight", tensor(np.concatenate([w for _, w, _ in arrays], axis=1)))
        self.register_buffer("bias", tensor(np.stack([b + (center - c) @ w for c, w, b in arrays])))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, m, k)."""
        z = torch.matmul(x - self.center, self.weight)
        return linked(z.reshape(-1, *self.shape) + self.bias, self.link)


def _stacked(tails: Sequence[Sequence[Any]]) -> list[nn.Module]:
    """Return the last steps of members of one form as steps that compute all of them."""
    if len(tails) == 1:
        return list(tails[0])
    heads = [tail[-1] for tail in tails]
    if len(tails[0]) == 1:
        return [Beside(heads)]
    if len({_print_of(tail[0]) for tail in tails}) == 1:
        return [tails[0][0], Beside(heads)]
    arrays = [head.arrays() for head in heads]
    centers, weights, biases = (np.stack([a[i] for a in arrays]) for i in range(3))
    return [TangentSpace.beside([tail[0] for tail in tails]), Affine(centers, weights, biases, heads[0].link)]

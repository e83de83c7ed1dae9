"""A small submission for the contest of 2026, and a good answer for each of its tracks: what tests and studies alter."""

from __future__ import annotations

__all__ = ["ANSWERS", "HEAD"]

HEAD = """
import numpy as np
import torch
from benchmark_utils.base_solver import CompetSolver


class Model(torch.nn.Module):
    def __init__(self, meta):
        super().__init__()
        self.meta = meta

    @torch.inference_mode()
    def predict(self, X):
        f = X.std(dim=(1, 2))
        {answer}


class Solver(CompetSolver):
    name = "mine"

    def load_model(self, meta):
        return Model(meta)
"""
"""The script; its network does what stands in the place of ``{answer}`` with the windows X and their deviations f."""
ANSWERS = {
    "bci": "(f * 100).long() % self.meta['n_classes']",
    "sleep": "300 + f",
    "image": "X.mean(2) @ torch.ones(X.shape[1], self.meta['n_outputs']) + f[:, None]",
    "pose": "(0.1 * X.mean(1, keepdim=True)).clamp(-3, 3).repeat(1, self.meta['n_joints'], 1)",
}
"""What a good network answers."""

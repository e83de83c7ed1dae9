"""The base class under its other name."""

from benchmark_utils.base_solver import CompetSolver

__all__ = ["CompetSolver"]

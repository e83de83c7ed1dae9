"""The class that a submission's solver derives from: without a name of its own it has a property for one."""

__all__ = ["CompetSolver"]


class CompetSolver:
    """A solver of the benchmark."""

    @property
    def name(self) -> str:
        """What the benchmark calls it."""
        raise NotImplementedError

    def load_model(self, meta):
        """Return the network."""
        raise NotImplementedError

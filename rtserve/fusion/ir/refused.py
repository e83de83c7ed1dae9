"""A rewrite's "no": which node, and why."""

from __future__ import annotations

__all__ = ["Refused"]


class Refused(Exception):  # noqa: N818 -- a "no" on its way to becoming a value
    """A node that is not rewritten, or not in a way that is handled; carries the reason."""

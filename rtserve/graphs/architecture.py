"""What makes two networks one architecture: the names and shapes of what they learn.

The digest is taken of a state_dict alone, so that a checkpoint, the run that trained it and the graph exported from it
agree without anything being built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rtserve.files import canonical_json, sha256_bytes

__all__ = ["architecture_digest"]

_NOT_LEARNED = ("num_batches_tracked", "input_scale")
"""What BatchNorm counts, and a network of ours for volts: a checkpoint may have them or not."""
_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.original(\d?)$")
_OLD_NAMES = {"": "", "0": "_g", "1": "_v"}


def architecture_digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return ``shapes:`` and 16 hex digits; equal architectures agree.

    Parameters
    ----------
    shapes : mapping
        Shape of every tensor of a state_dict by its key, prefixes such as ``module.`` removed. The two ways in which
        torch has named the halves of a weight norm count as one.
    """
    kept = sorted(
        (_PARAMETRIZED.sub(lambda found: found[1] + _OLD_NAMES.get(found[2], found[2]), key), [int(n) for n in shape])
        for key, shape in shapes.items()
        if key.rpartition(".")[2] not in _NOT_LEARNED
    )
    return "shapes:" + sha256_bytes(canonical_json(kept).encode())[:16]

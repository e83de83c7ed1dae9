"""LUNA: the angle of a zero spectrum becomes 0/0, and that of a real negative bin jumps between pi and -pi."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .rewrite import Quirk, Rewrite
from .spectra import angle, spectrum

__all__ = ["REWRITES"]


def embed_spectrum(self: Any, x: Tensor) -> Tensor:
    """Embed magnitude and angle of each patch's spectrum."""
    size = self.patch_size
    real, imag = spectrum(F.pad(x, (0, -x.shape[-1] % size)).unflatten(-1, (-1, size)))
    features = torch.cat(((real * real + imag * imag).sqrt(), angle(real, imag)), dim=-1)
    return self.frequency_to_embed(features).flatten(1, 2)


REWRITES = {
    "_FrequencyFeatureEmbedder": Rewrite(
        quirk=Quirk(
            name="spectrum-angle",
            reason="the angle of a zero spectrum became 0/0, and that of a real negative bin jumped with rounding",
        ),
        stand_in=embed_spectrum,
    ),
}

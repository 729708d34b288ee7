"""Rotary position embedding in the half-split layout of Llama.

Shape letters: P positions, E head size, F = E / 2.
"""

import math

import torch
from torch import Tensor

from trainyard.engine.config import ModelConfig, RopeScaling


class RopeTable:
    """Cosines and sines of all positions seen so far, grown by doubling; float32 on the model's device.

    Source:
        Su et al. 2021, arXiv:2104.09864; llama3 scaling as in transformers' `modeling_rope_utils`.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        with torch.device("cpu"):  # also while the decoder itself is laid out on the meta device
            self._inverse_F = _inverse_frequencies(cfg)
            self._cos_PE = torch.empty(0, cfg.head_dim)
            self._sin_PE = torch.empty(0, cfg.head_dim)

    def upto(self, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Give (cos_PE, sin_PE) with P >= positions; the first half of each sine row is negated."""
        if self._cos_PE.shape[0] < positions or self._cos_PE.device != device:
            with torch.inference_mode(False):  # training reads what decoding made
                self._grow(max(256, 1 << (positions - 1).bit_length()), device)
        return self._cos_PE, self._sin_PE

    def _grow(self, size: int, device: torch.device) -> None:
        angles_PF = torch.outer(torch.arange(size, dtype=torch.float32), self._inverse_F)
        cos_PF, sin_PF = angles_PF.cos(), angles_PF.sin()
        self._cos_PE = torch.cat((cos_PF, cos_PF), 1).to(device)
        self._sin_PE = torch.cat((-sin_PF, sin_PF), 1).to(device)


def _inverse_frequencies(cfg: ModelConfig) -> Tensor:
    exponent_F = torch.arange(0, cfg.head_dim, 2, dtype=torch.int64).float() / cfg.head_dim
    inverse_F = 1.0 / (cfg.rope_theta**exponent_F)
    scaling = cfg.rope_scaling
    if scaling is None:
        return inverse_F
    if scaling.kind == "linear":
        return inverse_F / scaling.factor
    return _llama3(inverse_F, scaling)


def _llama3(inverse_F: Tensor, scaling: RopeScaling) -> Tensor:
    """Divide long wavelengths by the factor, keep short ones, blend between."""
    wavelength_F = 2 * math.pi / inverse_F
    span = scaling.high_factor - scaling.low_factor
    smooth_F = (scaling.original_positions / wavelength_F - scaling.low_factor) / span
    blended_F = (1 - smooth_F) * inverse_F / scaling.factor + smooth_F * inverse_F
    is_long_F = wavelength_F > scaling.original_positions / scaling.low_factor
    is_short_F = wavelength_F < scaling.original_positions / scaling.high_factor
    return torch.where(is_long_F, inverse_F / scaling.factor, torch.where(is_short_F, inverse_F, blended_F))

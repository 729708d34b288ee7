"""One decoder of the Llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

Shape letters: B batch, T time, N tokens of a packed row, D hidden size, H query heads, K key-value heads, E head size,
F SwiGLU width, V vocabulary. A leading `...` stands for (B, T) or (N,).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from trainyard.engine.config import ModelConfig
from trainyard.engine.kernels import rms_norm, rotate_heads, swiglu
from trainyard.engine.rope import RopeTable

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q (..., H, E), k (..., K, E), v (..., K, E)) -> (..., H * E)."""
Project = Callable[[int, str, nn.Linear, Tensor], Tensor]
"""(layer, group, frozen map, x (..., in)) -> (..., out); where adapters are added."""


def plain_project(layer: int, group: str, linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply the map alone."""
    del layer, group
    out: Tensor = linear(x)
    return out


def projection_groups(cfg: ModelConfig) -> dict[str, dict[str, tuple[int, int]]]:
    """Name the fused maps of a layer: group -> projection (PEFT's name) -> its (start, stop) in the outputs."""
    q, kv, f = cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim, cfg.intermediate_size
    return {
        "qkv": {"q_proj": (0, q), "k_proj": (q, q + kv), "v_proj": (q + kv, q + 2 * kv)},
        "o": {"o_proj": (0, cfg.hidden_size)},
        "gate_up": {"gate_proj": (0, f), "up_proj": (f, 2 * f)},
        "down": {"down_proj": (0, cfg.hidden_size)},
    }


class Block(nn.Module):
    """One layer: attention and SwiGLU, each behind a norm; q, k, v are one matrix, gate and up another."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        self.cfg, self.layer = cfg, layer
        d, f, q = cfg.hidden_size, cfg.intermediate_size, cfg.heads * cfg.head_dim
        self.attention_norm = nn.Parameter(torch.ones(d))
        self.qkv = nn.Linear(d, q + 2 * cfg.kv_heads * cfg.head_dim, bias=cfg.qkv_bias)
        self.q_norm = nn.Parameter(torch.ones(cfg.head_dim)) if cfg.qk_norm else None
        self.k_norm = nn.Parameter(torch.ones(cfg.head_dim)) if cfg.qk_norm else None
        self.o = nn.Linear(q, d, bias=cfg.o_bias)
        self.mlp_norm = nn.Parameter(torch.ones(d))
        self.gate_up = nn.Linear(d, 2 * f, bias=cfg.mlp_bias)
        self.down = nn.Linear(f, d, bias=cfg.mlp_bias)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        attend: Attend,
        project: Project = plain_project,
        keep_M: Tensor | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            x: (..., D), the residual stream.
            rotary: Cosines and sines (..., 1, E) of each token's position.
            attend: Attention over whatever the caller holds: a batch, a packed row, a cache.
            project: How a fused map is applied.
            keep_M: Rows of (N, D) that are wanted; the others serve as keys and values only and leave after attention.

        Returns:
            (..., D), or (M, D) with keep_M.
        """
        cfg = self.cfg
        h = rms_norm(x, self.attention_norm, cfg.rms_eps)
        q, k, v = self.heads(project(self.layer, "qkv", self.qkv, h), rotary)
        mixed = attend(self.layer, q, k, v)
        if keep_M is not None:
            x, mixed = x[keep_M], mixed[keep_M]
        x = x + project(self.layer, "o", self.o, mixed)
        h = rms_norm(x, self.mlp_norm, cfg.rms_eps)
        return x + project(self.layer, "down", self.down, swiglu(project(self.layer, "gate_up", self.gate_up, h)))

    def heads(self, qkv: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Split the fused output into rotated q (..., H, E), rotated k (..., K, E) and v (..., K, E)."""
        cfg = self.cfg
        cos, sin = rotary
        heads = qkv.view(*qkv.shape[:-1], cfg.heads + 2 * cfg.kv_heads, cfg.head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            q, k, v = torch.split(heads, [cfg.heads, cfg.kv_heads, cfg.kv_heads], dim=-2)
            q, k = rms_norm(q, self.q_norm, cfg.rms_eps), rms_norm(k, self.k_norm, cfg.rms_eps)
            heads = torch.cat((q, k, v), dim=-2)
        qk, v = rotate_heads(heads, cos, sin, cfg.kv_heads)
        return qk[..., : cfg.heads, :], qk[..., cfg.heads :, :], v


class Decoder(nn.Module):
    """Token ids in, logits out; trainable in full, or frozen below adapters.

    Initial weights are normal with deviation 0.02, the two maps that write into the residual stream divided by
    sqrt(2 x layers) (Radford et al. 2019, GPT-2, section 2.3); loading replaces them.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.blocks = nn.ModuleList(Block(cfg, layer) for layer in range(cfg.layers))
        self.norm = nn.Parameter(torch.ones(cfg.hidden_size))
        self.head = None if cfg.tied_head else nn.Linear(cfg.hidden_size, cfg.vocab_size, bias=False)
        self.rope = RopeTable(cfg)
        self._initialise()

    @property
    def output(self) -> Tensor:
        """The output matrix (V, D); the embedding itself when tied."""
        return self.embed.weight if self.head is None else self.head.weight

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights in memory."""
        return self.embed.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.embed.weight.device

    @property
    def layers(self) -> list[Block]:
        """The blocks with their type."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Compute causal logits of a batch without padding; differentiable in every weight.

        Args:
            tokens_BT: (B, T) int64, T <= max_positions.

        Returns:
            (B, T, V) in the dtype of the weights.
        """
        steps = tokens_BT.shape[1]
        cos_PE, sin_PE = self.rope.upto(steps, tokens_BT.device)
        rotary = cos_PE[:steps, None], sin_PE[:steps, None]
        x_BTD = self.embed(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, rotary, self._attend_batch)
        return fn.linear(rms_norm(x_BTD, self.norm, self.cfg.rms_eps), self.output)

    def _attend_batch(self, layer: int, q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor) -> Tensor:
        return causal_attention(q_BTHE, k_BTKE, v_BTKE, self.cfg.window(layer)).flatten(2)

    def _initialise(self) -> None:
        residual_std = 0.02 / (2 * self.cfg.layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=residual_std if name.endswith(("o.weight", "down.weight")) else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


def causal_attention(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, window: int | None) -> Tensor:
    """Attend to the tokens before and at each position, at most `window` of them; rows may be padded at their end.

    Returns:
        (B, T, H, E)
    """
    steps, grouped = q_BTHE.shape[1], q_BTHE.shape[2] != k_BTKE.shape[2]
    q, k, v = q_BTHE.transpose(1, 2), k_BTKE.transpose(1, 2), v_BTKE.transpose(1, 2)
    if window is None or steps <= window:
        return fn.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped).transpose(1, 2)
    distance_TT = torch.arange(steps, device=q.device)[:, None] - torch.arange(steps, device=q.device)
    allowed_TT = (distance_TT >= 0) & (distance_TT < window)
    return fn.scaled_dot_product_attention(q, k, v, attn_mask=allowed_TT, enable_gqa=grouped).transpose(1, 2)

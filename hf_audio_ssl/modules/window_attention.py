# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Attention inside local windows of a (time, frequency) grid, shifted in time from layer to layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_audio_ssl.modules.transformer import DropPath, FeedForward


def to_windows(grid: Tensor, size: int, shift: int = 0) -> Tensor:
    """(batch, rows, columns, ...) -> (batch, windows, size * size, ...), padded with zeros (False).

    With a shift the borders between windows lie at row `shift`, `shift + size`, ... The windows at both ends reach
    beyond the grid; this equals a cyclic shift in which rows from opposite ends do not see each other.
    """
    rows, columns = grid.shape[1:3]
    before = size - shift if shift else 0
    padding = (0, -columns % size, before, -(before + rows) % size)
    # F.pad counts dimensions from the last
    grid = F.pad(grid, (0, 0) * (grid.ndim - 3) + padding)
    grid = grid.unflatten(1, (-1, size)).unflatten(3, (-1, size)).transpose(2, 3)
    return grid.flatten(3, 4).flatten(1, 2)


def from_windows(windows: Tensor, grid: tuple[int, int], size: int, shift: int = 0) -> Tensor:
    """The inverse of `to_windows`, for a grid of (rows, columns)."""
    rows, columns = grid
    before = size - shift if shift else 0
    x = windows.unflatten(1, (-1, -(-columns // size))).unflatten(3, (size, size)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, before : before + rows, :columns]


class RelativePositionBias(nn.Module):
    """A small network from log-spaced offsets to a bias per head (Swin Transformer V2, section 3.3)."""

    def __init__(self, num_heads: int, hidden_size: int, dropout: float):
        super().__init__()
        self.fc1 = nn.Linear(2, hidden_size)
        self.fc2 = nn.Linear(hidden_size, num_heads)
        self.dropout = dropout

    def forward(self, size: int) -> Tensor:
        """(heads, size * size, size * size) for all pairs of cells of one window."""
        steps = torch.arange(size, device=self.fc1.weight.device)
        cells = torch.cartesian_prod(steps, steps)
        offsets = (cells[:, None] - cells[None]).to(self.fc1.weight.dtype)
        offsets = offsets.sign() * offsets.abs().log1p()
        x = F.dropout(F.relu(self.fc1(offsets)), self.dropout, self.training)
        return F.dropout(self.fc2(x), self.dropout, self.training).permute(2, 0, 1)


class WindowAttention(nn.Module):
    """Cosine attention with a learned temperature per head (Swin Transformer V2, section 3.2) inside each window."""

    def __init__(self, config, window_size: int, bias_hidden_size: int, bias_dropout: float):
        super().__init__()
        self.window_size = window_size
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.temperature = nn.Parameter(torch.ones(self.num_heads))
        self.position_bias = RelativePositionBias(self.num_heads, bias_hidden_size, bias_dropout)

    def forward(self, windows: Tensor, valid: Tensor | None = None) -> Tensor:
        """windows (batch, windows, cells, dim); cells where `valid` (batch or 1, windows, cells) is False are not
        attended to.
        """
        batch, count, cells, dim = windows.shape
        # the windows join the heads: fused attention takes four dimensions
        qkv = self.qkv(windows).view(batch, count, cells, 3, self.num_heads, -1)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        query, key = F.normalize(query, dim=-1, eps=1e-6), F.normalize(key, dim=-1, eps=1e-6)
        scale = 1 / self.temperature.clamp(min=0.01)
        query = query * scale.repeat(count)[:, None, None].to(query.dtype)
        bias = self.position_bias(self.window_size).to(query.dtype).expand(1, count, -1, -1, -1)
        if valid is not None:
            # the lowest finite value: of a window without any real cell some kernels make NaN where it is -inf
            bias = bias.masked_fill(~valid[:, :, None, None], torch.finfo(query.dtype).min)
        output = F.scaled_dot_product_attention(
            query,
            key,
            value.to(query.dtype),
            attn_mask=bias.flatten(1, 2),
            dropout_p=self.dropout if self.training else 0.0,
            scale=1.0,
        )
        output = output.unflatten(1, (count, -1)).transpose(2, 3).flatten(3)
        return self.o_proj(output)


class WindowTransformerLayer(GradientCheckpointingLayer):
    """Window attention and feed-forward, each normed before it joins the residual (Swin Transformer V2, section 3.2).

    Odd layers have their windows shifted by `shift` rows (time steps), unless one window spans them all.
    """

    def __init__(
        self,
        config,
        layer_index: int,
        *,
        window_size: int,
        shift: int,
        bias_hidden_size: int = 384,
        bias_dropout: float = 0.1,
    ):
        super().__init__()
        self.window_size = window_size
        self.shift = shift if layer_index % 2 else 0
        self.attention = WindowAttention(config, window_size, bias_hidden_size, bias_dropout)
        self.mlp = FeedForward(config)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.drop_path = DropPath(config.drop_path_rate * layer_index / max(config.num_hidden_layers - 1, 1))

    def forward(self, hidden_states: Tensor, grid: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """hidden_states (batch, rows * columns, dim) -> the same shape; `valid` (batch, rows * columns), True =
        attended to.
        """
        size, shift = self.window_size, self.shift if grid[0] > self.window_size else 0
        if valid is None and (shift or grid[0] % size or grid[1] % size):
            valid = hidden_states.new_ones(1, grid[0] * grid[1], dtype=torch.bool)
        inside = None if valid is None else to_windows(valid.unflatten(1, grid), size, shift)
        x = self.attention(to_windows(hidden_states.unflatten(1, grid), size, shift), inside)
        x = from_windows(x, grid, size, shift).flatten(1, 2)
        x = hidden_states + self.drop_path(self.dropout(self.norm1(x)))
        return x + self.drop_path(self.dropout(self.norm2(self.mlp(x))))

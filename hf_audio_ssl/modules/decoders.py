# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Decoders that predict the targets of masked patches."""

from torch import Tensor, nn
from torch.nn import functional as F


class ConvDecoder2d(nn.Module):
    """Grouped convolutions over the patch grid (data2vec 2.0, section 3.3): cheap, and local by construction.

    Each layer: convolution, layer norm over channels without scale, GELU, and a residual where the widths agree.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, kernel_size: int, groups: int):
        super().__init__()
        sizes = [input_size] + [hidden_size] * num_layers
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size, padding=kernel_size // 2, groups=groups) for a, b in zip(sizes, sizes[1:])
        )
        self.projection = nn.Linear(hidden_size, input_size)
        for module in (*self.layers, self.projection):
            module._ssl_init = "torch_default"

    def forward(self, tokens: Tensor, grid: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """tokens (batch, rows * columns, input_size) -> the same shape.

        Where `valid` (batch, rows * columns) is False counts as beyond the border.
        """
        x = tokens.transpose(1, 2).unflatten(2, grid)
        inside = None if valid is None else valid[:, None].unflatten(2, grid).to(x.dtype)
        for conv in self.layers:
            y = conv(x if inside is None else x * inside)
            y = F.gelu(F.layer_norm(y.permute(0, 2, 3, 1), (y.shape[1],)).permute(0, 3, 1, 2))
            x = x + y if x.shape[1] == y.shape[1] else y
        return self.projection(x.flatten(2).transpose(1, 2))

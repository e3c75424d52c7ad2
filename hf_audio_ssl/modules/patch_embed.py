# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Patches of a spectrogram."""

from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """(batch, frames, mels) -> (batch, time patches * mel patches, hidden_size), time-major; tail frames are dropped.

    Xavier-uniform over the flattened kernel, as in MAE.
    """

    def __init__(self, patch_size: int, hidden_size: int, bias: bool = True):
        super().__init__()
        self.projection = nn.Conv2d(1, hidden_size, kernel_size=patch_size, stride=patch_size, bias=bias)
        self.projection._ssl_init = "xavier_uniform"

    def forward(self, input_values: Tensor) -> Tensor:
        x = self.projection(input_values[:, None].to(self.projection.weight.dtype))
        return x.flatten(2).transpose(1, 2)


def check_spectrogram(config, input_values: Tensor, attention_mask: Tensor | None = None) -> None:
    """Raises `ValueError` unless `input_values` is (batch, frames, `config.num_mel_bins`) with at least
    `config.patch_size` frames, and `attention_mask`, if any, (batch, frames).

    Another number of bins would make other patches, and put them in the wrong places without a word.
    """
    shape, bins, frames = tuple(input_values.shape), config.num_mel_bins, config.patch_size
    if len(shape) != 3 or shape[1] < frames or shape[2] != bins:
        raise ValueError(
            f"input_values: got shape {shape}, expected (batch, frames, mel bins) with at least one patch of {frames} "
            f"frames, and num_mel_bins={bins} bins"
        )
    if attention_mask is not None and tuple(attention_mask.shape) != shape[:2]:
        raise ValueError(
            f"attention_mask: got shape {tuple(attention_mask.shape)}, expected (batch, frames) = {shape[:2]}, as "
            "input_values has them"
        )


def patch_attention_mask(attention_mask: Tensor, patch_size: int, num_mel_patches: int) -> Tensor:
    """Frame mask (batch, frames), 1 = real -> patch mask (batch, patches), bool. A patch counts if all its frames are
    real.
    """
    frames = attention_mask.shape[1] // patch_size * patch_size
    rows = attention_mask[:, :frames].bool().unflatten(1, (-1, patch_size)).all(dim=2)
    return rows.repeat_interleave(num_mel_patches, dim=1)


def patchify(spectrogram: Tensor, patch_size: int) -> Tensor:
    """(batch, frames, mels) -> (batch, patches, patch_size^2), time-major, each patch row by row; tail frames are
    dropped.
    """
    frames = spectrogram.shape[1] // patch_size * patch_size
    x = spectrogram[:, :frames].unflatten(2, (-1, patch_size)).unflatten(1, (-1, patch_size))
    return x.transpose(2, 3).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch_size: int, num_mel_patches: int) -> Tensor:
    """The inverse: (batch, patches, patch_size^2) -> (batch, time patches * patch_size, mels)."""
    x = patches.unflatten(2, (patch_size, patch_size)).unflatten(1, (-1, num_mel_patches))
    return x.transpose(2, 3).flatten(3).flatten(1, 2)

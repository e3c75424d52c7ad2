# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Normalisations that are no layers: they have no weights."""

import torch
from torch import Tensor


def normalise_over_time(states: Tensor, valid: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Mean 0 and variance 1 for each channel of each clip: the instance norm of data2vec's targets.

    Args:
        states: (..., time, dim).
        valid: (..., time), True where a step counts; the others are scaled alike. None: all count.
    """
    if valid is None:
        # torch's own kernel, to the last bit: originals use it, and normalising amplifies rounding in quiet channels;
        # not F.instance_norm, which refuses a single step
        channels = states.flatten(0, -3).transpose(1, 2)
        normalised = torch.instance_norm(
            channels, None, None, None, None, True, 0.0, eps, torch.backends.cudnn.enabled
        )
        return normalised.transpose(1, 2).reshape(states.shape)
    weight = valid[..., None].to(states.dtype)
    count = weight.sum(dim=-2, keepdim=True).clamp(min=1)
    centred = states - (states * weight).sum(dim=-2, keepdim=True) / count
    variance = (centred.square() * weight).sum(dim=-2, keepdim=True) / count
    return centred * (variance + eps).rsqrt()

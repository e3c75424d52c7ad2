# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Telling the true target of a masked frame from distractors of the same clip."""

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_negatives(mask: Tensor, num_negatives: int, generator: torch.Generator | None = None) -> Tensor:
    """Distractors for every masked frame: uniform over the *other* masked frames of its clip, with replacement.

    Args:
        mask: (batch, frames), True = masked.

    Returns:
        Frame indices (batch, frames, num_negatives); of no meaning where `mask` is False. The only masked frame of a
        clip gets itself.
    """
    batch, frames = mask.shape
    count = mask.sum(dim=1)[:, None, None]
    rank = mask.long().cumsum(dim=1).sub(1)[..., None]
    masked_first = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
    # torch.rand with a generator, and be it None, cannot be compiled for symbolic sizes
    uniform = torch.empty(batch, frames, num_negatives, device=mask.device).uniform_(generator=generator)
    # the product may round up to count - 1 itself
    others = (count - 1).clamp(min=1)
    draw = torch.minimum((uniform * others).long(), others - 1)
    draw = draw + (draw >= rank)
    draw = torch.minimum(draw, (count - 1).clamp(min=0))
    return masked_first.gather(1, draw.flatten(1)).view_as(draw)


def contrastive_logits(
    predictions: Tensor, targets: Tensor, codes: Tensor, negatives: Tensor, temperature: float
) -> Tensor:
    """cosine(prediction, target) / temperature for the true target, in column 0, and the distractors (wav2vec 2.0,
    equation 3). A distractor with the codes of the true target is no distractor: -inf.

    All similarities of a clip are one matrix product: (frames, frames) numbers instead of (frames, negatives, dim).

    Args:
        predictions, targets: (batch, frames, dim).
        codes: (batch, frames, groups), what each target was made from.
        negatives: frame indices within the clip (batch, frames, negatives).

    Returns:
        (batch, frames, 1 + negatives), float32.
    """
    predictions = F.normalize(predictions.float(), dim=-1, eps=1e-8)
    targets = F.normalize(targets.float(), dim=-1, eps=1e-8)
    similarity = predictions @ targets.transpose(1, 2)
    positive = similarity.diagonal(dim1=1, dim2=2)[..., None]
    distractors = similarity.gather(2, negatives)
    batch, frames, count = negatives.shape
    chosen = codes.gather(1, negatives.flatten(1)[..., None].expand(-1, -1, codes.shape[2]))
    same = (chosen.view(batch, frames, count, -1) == codes[:, :, None]).all(dim=-1)
    return torch.cat([positive, distractors.masked_fill(same, -torch.inf)], dim=2) / temperature

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Masks made of spans along time, drawn for a whole batch at once, on the device, without waiting for it."""

import torch
from torch import Tensor

from hf_audio_ssl.modules.masking import random_uniform


def span_mask(
    batch_size: int,
    length: int,
    mask_prob: float,
    span: int,
    *,
    lengths: Tensor | None = None,
    min_spans: int = 2,
    equal_counts: bool = True,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Spans of `span` positions that may overlap (wav2vec 2.0, section 4.1 and appendix A).

    A row of n positions gets floor(mask_prob n / span + u) spans, u uniform on [0, 1), but at least `min_spans` if
    they fit; their starts are drawn without replacement from the first n - span positions, so that the very last
    position is never masked, as in the original. With mask_prob 0.65 and span 10 about 49% of a long row are masked.

    Args:
        lengths: positions of each row that may be masked (batch_size,); all if None. A row that is no longer than a
            span has its last half masked.
        equal_counts: then masked positions are freed at random until every row has as many as the row with the fewest.

    Returns:
        Bool mask (batch_size, length), True = masked.

    Raises:
        ValueError: a `mask_prob` outside (0, 1], or a span that is not positive.
    """
    if not 0 < mask_prob <= 1 or span < 1:
        raise ValueError(f"mask_prob={mask_prob}, span={span}: expected a share in (0, 1] and at least 1")

    def uniform(*shape: int) -> Tensor:
        return random_uniform(shape, device=device, generator=generator)

    position = torch.arange(length, device=device)
    if lengths is None:
        lengths = torch.full((batch_size,), length, device=device)
    lengths = lengths.to(position)[:, None]
    # rows that are too short for whole spans get shorter ones
    row_span = torch.clamp((lengths + 1) // 2, max=span)
    row_span = torch.where(lengths > span, span, row_span)
    last_start = (lengths - row_span).clamp(min=1)
    spans = (mask_prob * lengths / span + uniform(batch_size, 1)).floor().long().clamp(min=min_spans)
    spans = torch.minimum(spans, last_start)
    priority = uniform(batch_size, length).masked_fill(position >= last_start, -1.0)
    start = _rank(priority) < spans
    # masked if one of the last `row_span` positions, this one included, is a start
    begun = torch.nn.functional.pad(start.long().cumsum(dim=1), (1, 0))
    before = (position + 1 - row_span).clamp(min=0)
    mask = begun[:, 1:] > begun.gather(1, before)
    # a row of a single position has no neighbour to be predicted from: it stays as it is
    mask &= (position < lengths) & (lengths > 1)
    if equal_counts:
        priority = uniform(batch_size, length).masked_fill(~mask, -1.0)
        mask &= _rank(priority) < mask.sum(dim=1).min()
    return mask


def _rank(priority: Tensor) -> Tensor:
    """Place of each element in its row, 0 = the largest."""
    return priority.argsort(dim=1, descending=True, stable=True).argsort(dim=1)

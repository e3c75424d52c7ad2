# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The losses of supervised heads."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    multi_label: bool,
    reduction: Literal["mean", "labels", "batch"] = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy (single label) or binary cross-entropy (multi-label).

    Args:
        logits: (batch, classes).
        labels: class ids (batch,), or probabilities / multi-hot (batch, classes), as mixup makes them.
        reduction: of the binary cross-entropy: `mean` over clips and classes (transformers' convention), or the
            sum divided by the number of positive labels (AudioSet recipes of EAT) or by the number of clips.
        label_smoothing: of the cross-entropy only.
    """
    if not multi_label:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if labels.shape != logits.shape:
        raise ValueError(f"labels: got shape {tuple(labels.shape)}, expected multi-hot {tuple(logits.shape)}")
    if reduction == "mean":
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    total = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
    return total / (labels.sum().clamp(min=1) if reduction == "labels" else labels.shape[0])

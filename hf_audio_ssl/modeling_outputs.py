# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What pre-training heads return. A method adds its losses (`<name>_loss`) and meters; 0-dim floats are logged."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class MaskedPredictionOutput(ModelOutput):
    """
    loss (): what is minimised.
    masked_share (): share of the positions that are masked, and scored.
    targets, predictions: of what shape, the method says.
    bool_masked_pos (rows, positions): 1 = masked; several rows per clip where a method draws several masks.
    hidden_states, attentions: of the encoder, which may have seen the visible positions only.
    """

    loss: Tensor | None = None
    masked_share: Tensor | None = None
    targets: Tensor | None = None
    predictions: Tensor | None = None
    bool_masked_pos: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None

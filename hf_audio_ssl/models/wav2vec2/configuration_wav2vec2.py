# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import transformers
from huggingface_hub.dataclasses import strict

from hf_audio_ssl.configuration_base import CheckedConfig


@strict
class Wav2Vec2Config(CheckedConfig, transformers.Wav2Vec2Config):
    """transformers' configuration of wav2vec 2.0 and what the original's pre-training has beyond it.

    The defaults are the paper's base model (arXiv 2006.11477, section 4.2) and its released recipe. `mask_time_prob`
    and its like keep their meaning in transformers, SpecAugment in fine-tuning, and its defaults.

    Args:
        pretraining_mask_prob, pretraining_mask_length, pretraining_min_masks: spans of masked frames; see `span_mask`.
        feature_grad_mult: factor on the gradients of the convolutions.
        feature_penalty_weight: weight of the mean square of the convolutions' output.
        gumbel_temperature, gumbel_temperature_end, gumbel_temperature_decay: the quantiser's temperature is multiplied
            by the decay at each update, and stops at the end.
    """

    # no annotation: not a field
    model_type = "wav2vec2"
    keys_to_ignore_at_inference = [
        "projected_states", "projected_quantized_states", "codes", "clip_losses", "mask_time_indices",
        "hidden_states", "attentions",
    ]  # fmt: skip

    # transformers' defaults are those of fine-tuning
    activation_dropout: float | int = 0.0
    feat_proj_dropout: float | int = 0.1
    feat_quantizer_dropout: float | int = 0.1
    layerdrop: float | int = 0.05

    pretraining_mask_prob: float | int = 0.65
    pretraining_mask_length: int = 10
    pretraining_min_masks: int = 2
    feature_grad_mult: float | int = 0.1
    feature_penalty_weight: float | int = 10.0
    gumbel_temperature: float | int = 2.0
    gumbel_temperature_end: float | int = 0.5
    gumbel_temperature_decay: float | int = 0.999995

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive(
            "conv_dim", "conv_kernel", "conv_stride", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
            "num_codevector_groups", "num_codevectors_per_group", "codevector_dim", "proj_codevector_dim",
            "pretraining_mask_length",
        )  # fmt: skip
        self.require_activation("feat_extract_activation")
        start, end = self.gumbel_temperature, self.gumbel_temperature_end
        self.require(
            0 < self.pretraining_mask_prob <= 1,
            f"pretraining_mask_prob={self.pretraining_mask_prob}: expected a share in (0, 1]",
        )
        self.require(
            self.pretraining_min_masks >= 0 and self.feature_penalty_weight >= 0 and self.feature_grad_mult > 0,
            f"pretraining_min_masks={self.pretraining_min_masks}, feature_penalty_weight="
            f"{self.feature_penalty_weight}, feature_grad_mult={self.feature_grad_mult}: expected at least 0, 0, and "
            "more than 0 (freeze_feature_encoder() freezes the convolutions)",
        )
        self.require(
            0 < end <= start and 0 < self.gumbel_temperature_decay <= 1,
            f"gumbel_temperature={start}, gumbel_temperature_end={end}, gumbel_temperature_decay="
            f"{self.gumbel_temperature_decay}: expected 0 < end <= start, and a decay in (0, 1]",
        )

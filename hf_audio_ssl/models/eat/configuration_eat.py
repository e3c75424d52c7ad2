# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from typing import Literal

from huggingface_hub.dataclasses import strict

from hf_audio_ssl.configuration_base import SpectrogramConfig


@strict
class EatConfig(SpectrogramConfig):
    """Configuration of EAT (arXiv 2401.03497). The defaults are the paper's base model and its pre-training on AS-2M.

    Args:
        max_time_patches: rows of the position table; longer input is an error (768 rows are 122.9 s).
        decoder_*: the convolutional decoder of the pre-training head.
        mask_ratio, mask_ratio_adjust, mask_block_size: inverse block masking; see `inverse_block_mask`.
        mask_noise_std: standard deviation of the noise that stands in for masked patches in the decoder's input.
        num_clones: masks per clip that share one pass of the teacher.
        average_top_k_layers: teacher layers averaged into the target; None = all.
        frame_loss_weight, utterance_loss_weight: the two terms of the objective (section 3.3).
        utterance_loss_reduction: "sum" over the process's clips and clones is what the authors' code computes
            (their weight of 1 on 12 clips x 16 clones equals a weight of 192 on the "mean"); "mean" does not depend on
            the batch size.
        ema_decay, ema_end_decay, ema_anneal_steps: the teacher's decay grows linearly over the first steps.
    """

    model_type = "ssl_eat"

    max_time_patches: int = 768
    decoder_hidden_size: int = 768
    decoder_num_layers: int = 6
    decoder_kernel_size: int = 3
    decoder_groups: int = 16
    mask_ratio: float = 0.8
    mask_ratio_adjust: float = 0.07
    mask_block_size: int = 5
    mask_noise_std: float = 0.01
    num_clones: int = 16
    average_top_k_layers: int | None = None
    frame_loss_weight: float | int = 1.0
    utterance_loss_weight: float | int = 1.0
    utterance_loss_reduction: Literal["sum", "mean"] = "sum"
    ema_decay: float | int = 0.9998
    ema_end_decay: float | int = 0.99999
    ema_anneal_steps: int = 100_000

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive(
            "max_time_patches", "decoder_hidden_size", "decoder_num_layers", "decoder_groups", "mask_block_size",
            "num_clones",
        )  # fmt: skip
        self.require(self.hidden_size % 4 == 0, f"hidden_size={self.hidden_size} is not a multiple of 4")
        self.require(self.decoder_kernel_size % 2 == 1, f"decoder_kernel_size={self.decoder_kernel_size} is not odd")
        for name in ("hidden_size", "decoder_hidden_size"):
            self.require(
                getattr(self, name) % self.decoder_groups == 0,
                f"{name}={getattr(self, name)} is not a multiple of decoder_groups={self.decoder_groups}",
            )
        self.require(
            self.average_top_k_layers is None or 1 <= self.average_top_k_layers <= self.num_hidden_layers,
            f"average_top_k_layers={self.average_top_k_layers}: expected 1 to {self.num_hidden_layers}, or None",
        )
        self.require(
            0 <= self.ema_decay <= self.ema_end_decay <= 1,
            f"ema_decay={self.ema_decay}, ema_end_decay={self.ema_end_decay}: expected 0 <= first <= second <= 1",
        )

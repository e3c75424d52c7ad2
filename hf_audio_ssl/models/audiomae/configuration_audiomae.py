# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from typing import Literal

from huggingface_hub.dataclasses import strict

from hf_audio_ssl.configuration_base import SpectrogramConfig


@strict
class AudioMaeConfig(SpectrogramConfig):
    """Configuration of Audio-MAE (arXiv 2207.06405). The defaults are the paper's base model with the local decoder.

    Args:
        position_embedding, num_time_patches: where a patch's code comes from. "transposed": the authors' fixed sine
            table, laid out for the transposed grid: patch i (time-major) has the code of row i // num_time_patches and
            column i % num_time_patches. "aligned": the same table, but each patch has the code of its own time and
            frequency. "learned": a table for clips of at most num_time_patches (64 are 10.24 s), which starts as
            "transposed". With a fixed table clips may have any length.
        decoder_*: the decoder of the pre-training head. "local": attention in windows of `decoder_window_size` x
            `decoder_window_size` patches, shifted by `decoder_window_shift` time patches in every other layer (0:
            never); `decoder_bias_*` is the network behind its position bias. "global": plain transformer layers, 8 in
            the paper.
        mask_strategy: "patches" hides a share `mask_ratio` of the patches; "time_frequency" hides a share
            `mask_time_ratio` of the time columns and `mask_frequency_ratio` of the frequency rows (section 3).
        norm_pix_loss: targets are patches normalised to mean 0 and variance 1.
        classifier_mask_time_ratio, classifier_mask_frequency_ratio: shares of the columns and rows of patches that
            the classifier does not see in training (section 3); 0.2 each in the paper's fine-tuning.
    """

    model_type = "ssl_audiomae"

    position_embedding: Literal["transposed", "aligned", "learned"] = "transposed"
    num_time_patches: int = 64
    decoder_type: Literal["local", "global"] = "local"
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 16
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048
    decoder_window_size: int = 4
    decoder_window_shift: int = 2
    decoder_bias_hidden_size: int = 384
    decoder_bias_dropout: float | int = 0.1
    mask_strategy: Literal["patches", "time_frequency"] = "patches"
    mask_ratio: float = 0.8
    mask_time_ratio: float = 0.7
    mask_frequency_ratio: float = 0.3
    norm_pix_loss: bool = True
    classifier_pooling: Literal["cls", "mean"] = "mean"
    classifier_mask_time_ratio: float | int = 0.0
    classifier_mask_frequency_ratio: float | int = 0.0

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive(
            "num_time_patches", "decoder_hidden_size", "decoder_num_hidden_layers", "decoder_num_attention_heads",
            "decoder_intermediate_size", "decoder_window_size", "decoder_bias_hidden_size",
        )  # fmt: skip
        for name in ("hidden_size", "decoder_hidden_size"):
            self.require(getattr(self, name) % 4 == 0, f"{name}={getattr(self, name)} is not a multiple of 4")
        self.require(
            self.decoder_hidden_size % self.decoder_num_attention_heads == 0,
            f"decoder_hidden_size={self.decoder_hidden_size} is not a multiple of "
            f"decoder_num_attention_heads={self.decoder_num_attention_heads}",
        )
        self.require(
            0 <= self.decoder_window_shift < self.decoder_window_size,
            f"decoder_window_shift={self.decoder_window_shift}: expected 0 to decoder_window_size - 1",
        )
        shares = ("mask_time_ratio", "mask_frequency_ratio", "decoder_bias_dropout")
        for name in (*shares, "classifier_mask_time_ratio", "classifier_mask_frequency_ratio"):
            self.require(0 <= getattr(self, name) < 1, f"{name}={getattr(self, name)}: expected a value in [0, 1)")

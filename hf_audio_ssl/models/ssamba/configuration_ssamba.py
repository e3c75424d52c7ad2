# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from typing import Literal

from huggingface_hub.dataclasses import strict

from hf_audio_ssl.configuration_base import AudioSSLConfig


@strict
class SsambaConfig(AudioSSLConfig):
    """Configuration of SSAMBA (arXiv 2405.11831). The defaults are the base model of the authors' pre-training script.

    Args:
        bidirectional: each layer is a pair of Mamba blocks, one of which sees the sequence flipped, so that 12 layers
            are the paper's depth of 24. False: each layer is one block (as the authors' SUPERB wrapper builds it).
        rms_norm: RMS norms without bias in the place of layer norms.
        intermediate_size: channels of the state spaces, twice `hidden_size` in Mamba.
        state_size, conv_kernel, time_step_rank: numbers per channel, width of the causal convolution, and rank of the
            projection to the step sizes (`hidden_size` / 16 in Mamba).
        num_mel_bins, patch_size: height of the spectrogram and side of its square patches.
        frequency_stride, time_stride: smaller than `patch_size` where patches overlap, as in the authors' fine-tuning
            (10); pre-training takes patches without overlap.
        position_rows, position_columns: the table of positions, mel patches by time patches. Other grids are served
            from it, see `positions_for_grid`.
        mask_ratio: share of the patches that are masked; the authors masked 250, 300 and 400 of 512.
        min_mask_cluster, max_mask_cluster: see `cluster_mask`.
        generative_loss_weight: of the reconstruction beside the contrastive term.
        num_attention_heads: without meaning here; transformers' tools ask for it.
    """

    model_type = "ssl_ssamba"
    keys_to_ignore_at_inference = [
        *AudioSSLConfig.keys_to_ignore_at_inference,
        "reconstruction",
        "bool_masked_pos_generative",
    ]

    num_attention_heads: int = 1
    intermediate_size: int = 1536
    drop_path_rate: float | int = 0.1
    layer_norm_eps: float = 1e-5
    bidirectional: bool = True
    rms_norm: bool = False
    state_size: int = 16
    conv_kernel: int = 4
    time_step_rank: int = 48
    num_mel_bins: int = 128
    patch_size: int = 16
    frequency_stride: int = 16
    time_stride: int = 16
    position_rows: int = 8
    position_columns: int = 64
    mask_ratio: float = 0.5859375
    min_mask_cluster: int = 3
    max_mask_cluster: int = 5
    generative_loss_weight: float | int = 10.0
    classifier_pooling: Literal["cls", "mean"] = "mean"

    @property
    def num_mel_patches(self) -> int:
        return (self.num_mel_bins - self.patch_size) // self.frequency_stride + 1

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive(
            "state_size", "conv_kernel", "time_step_rank", "frequency_stride", "time_stride", "patch_size",
            "position_rows", "position_columns",
        )  # fmt: skip
        self.require(
            self.num_mel_bins >= self.patch_size,
            f"num_mel_bins={self.num_mel_bins} is less than patch_size={self.patch_size}",
        )
        self.require(0 < self.mask_ratio < 1, f"mask_ratio={self.mask_ratio}: expected a value between 0 and 1")
        self.require(
            1 <= self.min_mask_cluster <= self.max_mask_cluster,
            f"min_mask_cluster={self.min_mask_cluster}, max_mask_cluster={self.max_mask_cluster}: expected "
            "1 <= first <= second",
        )

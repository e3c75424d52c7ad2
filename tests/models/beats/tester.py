# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.modules.masking import num_visible, random_mask
from hf_audio_ssl.testing.mixins import MethodTester


class BeatsTester(MethodTester):
    method = "beats"
    sizes = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        num_mel_bins=32,
        patch_hidden_size=24,
        position_kernel_size=6,
        position_groups=4,
        num_position_buckets=16,
        max_position_distance=20,
        layerdrop=0.0,
        mask_ratio=0.5,
        predictor_num_layers=1,
        codebook_size=12,
        codebook_dim=8,
        estimator_num_layers=1,
        num_labels=3,
    )
    extractor_sizes = dict(num_mel_bins=32, max_length=64, mean=14.0, std=3.0)
    steps = 96
    short_steps = 48

    def num_tokens(self, config, steps, auto_class):
        patches = steps // config.patch_size * config.num_mel_patches
        return num_visible(patches, config.mask_ratio) if auto_class == "AutoModelForPreTraining" else patches

    def explicit_randomness(self, config, inputs):
        batch, steps = inputs["input_values"].shape[:2]
        patches = steps // config.patch_size * config.num_mel_patches
        return {
            "bool_masked_pos": random_mask(
                batch, patches, config.mask_ratio, generator=torch.Generator().manual_seed(2)
            )
        }

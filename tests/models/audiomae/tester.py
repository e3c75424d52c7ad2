# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.modules.masking import num_visible, random_mask
from hf_audio_ssl.testing.mixins import MethodTester


class AudioMaeTester(MethodTester):
    method = "audiomae"
    sizes = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        num_mel_bins=32,
        num_time_patches=16,
        decoder_hidden_size=48,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=64,
        decoder_bias_hidden_size=8,
        decoder_bias_dropout=0.0,
        mask_ratio=0.7,
        num_labels=3,
    )
    extractor_sizes = dict(num_mel_bins=32, max_length=64, mean=-6.0, std=3.0)
    steps = 96
    short_steps = 48

    def num_tokens(self, config, steps, auto_class):
        patches = steps // config.patch_size * config.num_mel_patches
        return 1 + (num_visible(patches, config.mask_ratio) if auto_class == "AutoModelForPreTraining" else patches)

    def explicit_randomness(self, config, inputs):
        batch, steps = inputs["input_values"].shape[:2]
        patches = steps // config.patch_size * config.num_mel_patches
        return {
            "bool_masked_pos": random_mask(
                batch, patches, config.mask_ratio, generator=torch.Generator().manual_seed(2)
            )
        }

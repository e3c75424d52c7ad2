# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.modules.cluster_masking import cluster_mask
from hf_audio_ssl.testing.mixins import MethodTester


class SsambaTester(MethodTester):
    method = "ssamba"
    sizes = dict(
        hidden_size=32,
        num_hidden_layers=2,
        intermediate_size=48,
        state_size=4,
        time_step_rank=4,
        drop_path_rate=0.0,
        num_mel_bins=32,
        position_rows=2,
        position_columns=6,
        max_mask_cluster=3,
        num_labels=3,
    )
    extractor_sizes = dict(num_mel_bins=32, max_length=64, mean=-6.0, std=3.0)
    steps = 96
    short_steps = 48
    lora_targets = ("in_proj", "out_proj")
    has_attentions = False

    def num_tokens(self, config, steps, auto_class):
        return 1 + steps // config.patch_size * config.num_mel_patches

    def explicit_randomness(self, config, inputs):
        batch, steps = inputs["input_values"].shape[:2]
        grid = (config.num_mel_patches, steps // config.patch_size)
        generator = torch.Generator().manual_seed(2)
        count = int(grid[0] * grid[1] * config.mask_ratio)
        names = ("bool_masked_pos", "bool_masked_pos_generative")
        return {
            name: cluster_mask(batch, grid, count, min_cluster=3, max_cluster=3, generator=generator) for name in names
        }

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.modules.masking import inverse_block_mask, num_visible
from hf_audio_ssl.testing.mixins import MethodTester


class EatTester(MethodTester):
    method = "eat"
    sizes = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        num_mel_bins=32,
        max_time_patches=16,
        decoder_hidden_size=16,
        decoder_num_layers=1,
        decoder_groups=4,
        mask_block_size=3,
        num_clones=2,
        utterance_loss_reduction="mean",
        ema_decay=0.9,
        ema_end_decay=0.99,
        ema_anneal_steps=10,
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
        grid = (steps // config.patch_size, config.num_mel_patches)
        generator = torch.Generator().manual_seed(2)
        rows = batch * config.num_clones
        mask = inverse_block_mask(
            rows, grid, config.mask_ratio, block_size=config.mask_block_size, generator=generator
        )
        noise = torch.randn(rows, grid[0] * grid[1], config.hidden_size, generator=generator)
        return {"bool_masked_pos": mask, "mask_noise": noise * config.mask_noise_std}

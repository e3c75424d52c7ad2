# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.losses.contrastive import sample_negatives
from hf_audio_ssl.modules.span_masking import span_mask
from hf_audio_ssl.testing.mixins import MethodTester


class Wav2Vec2Tester(MethodTester):
    method = "wav2vec2"
    sizes = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        # layer norm in the convolutions: with group norm padding changes the outputs, in the original too
        feat_extract_norm="layer",
        conv_dim=[16, 16, 16],
        conv_kernel=[10, 4, 2],
        conv_stride=[5, 4, 2],
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=8,
        codevector_dim=16,
        proj_codevector_dim=16,
        num_negatives=5,
        pretraining_mask_prob=0.5,
        pretraining_mask_length=2,
        classifier_proj_size=32,
        feature_penalty_weight=1.0,
        feature_grad_mult=1.0,
        gumbel_temperature_decay=0.99,
        **dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout"), 0.0),
        **dict.fromkeys(("feat_proj_dropout", "feat_quantizer_dropout", "layerdrop"), 0.0),
        # SpecAugment draws from numpy
        apply_spec_augment=False,
        num_labels=3,
    )
    extractor_sizes = dict(max_length=4000, eps=1e-4, min_length=65)
    steps = 985  # 24 frames
    short_steps = 505  # 12 frames
    only_masked_input_uses = ("masked_spec_embed",)

    def num_tokens(self, config, steps, auto_class):
        return (steps - 65) // 40 + 1

    def explicit_randomness(self, config, inputs):
        generator = torch.Generator().manual_seed(2)
        frames = self.num_tokens(config, inputs["input_values"].shape[1], "")
        batch = len(inputs["input_values"])
        attention_mask = inputs.get("attention_mask")
        lengths = None if attention_mask is None else (attention_mask.sum(dim=1) - 65) // 40 + 1
        mask = span_mask(batch, frames, 0.5, 2, lengths=lengths, generator=generator)
        negatives = sample_negatives(mask, config.num_negatives, generator)
        noise = torch.rand(batch, frames, 2, config.num_codevectors_per_group, generator=generator)
        return {
            "mask_time_indices": mask.long(),
            "sampled_negative_indices": negatives + frames * torch.arange(batch)[:, None, None],
            "gumbel_noise": noise.log().neg().log().neg(),
        }

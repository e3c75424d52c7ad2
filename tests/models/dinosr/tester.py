# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.modules.span_masking import span_mask
from hf_audio_ssl.testing.mixins import MethodTester


class DinoSrTester(MethodTester):
    method = "dinosr"
    copied_by_teacher = ("pos_conv_embed.",)
    sizes = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layerdrop=0.0,
        conv_dim=[16, 16, 16],
        conv_kernel=[16, 8, 4],
        conv_stride=[10, 8, 4],
        num_conv_pos_embeddings=2,
        conv_pos_kernel_size=3,
        num_conv_pos_embedding_groups=4,
        mask_length=2,
        num_codebooks=2,
        codebook_size=8,
        ema_decay=0.9,
        ema_end_decay=0.99,
        ema_anneal_steps=10,
        vocab_size=5,
        num_labels=3,
    )
    # a frame is 326 samples, the next begins 320 later
    extractor_sizes = dict(max_length=16000, min_length=326)
    conformance_skips = {
        "test_init_weights_can_init_buffers": "expects buffers without chance; codebooks are drawn, see test_dinosr.py"
    }
    steps = 326 + 11 * 320
    short_steps = 326 + 5 * 320

    def num_tokens(self, config, steps, auto_class):
        return (steps - config.receptive_field) // config.inputs_to_logits_ratio + 1

    def explicit_randomness(self, config, inputs):
        batch, steps = inputs["input_values"].shape
        generator = torch.Generator().manual_seed(2)
        frames = self.num_tokens(config, steps, "AutoModelForPreTraining")
        return {"bool_masked_pos": span_mask(batch, frames, config.mask_prob, config.mask_length, generator=generator)}

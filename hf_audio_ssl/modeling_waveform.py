# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Encoders whose tokens are the frames of strided convolutions on a waveform."""

import torch
from torch import Tensor

from hf_audio_ssl.configuration_base import receptive_field


class ConvolutionsMixin:
    """Before transformers' convolutions: waveforms (batch, samples) -> (batch, channels, frames), checked."""

    def __init__(self, config):
        super().__init__(config)
        self.shortest = receptive_field(config.conv_kernel, config.conv_stride)

    def forward(self, input_values: Tensor) -> Tensor:
        if input_values.ndim != 2 or input_values.shape[1] < self.shortest:
            raise ValueError(
                f"input_values: got shape {tuple(input_values.shape)}, expected (batch, at least {self.shortest} "
                "samples)"
            )
        hidden_states = input_values[:, None]
        if self.training and self.conv_layers[0].gradient_checkpointing:
            # a re-entrant checkpoint of the first layer would pass no gradient on to its weights; the parent asks for
            # the waveform's gradient always, which costs one and cannot be compiled
            hidden_states.requires_grad_()
        for layer in self.conv_layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class WaveformTokensMixin:
    """One token for each frame of the convolutions that `conv_kernel` and `conv_stride` describe."""

    @property
    def input_steps_per_frame(self) -> int:
        return self.config.inputs_to_logits_ratio

    @property
    def receptive_field(self) -> int:
        return receptive_field(self.config.conv_kernel, self.config.conv_stride)

    def frame_mask(self, attention_mask: Tensor | None) -> Tensor | None:
        """Samples (batch, samples), 1 = real -> frames (batch, frames), True = made of real samples only."""
        if attention_mask is None:
            return None
        steps, field = self.input_steps_per_frame, self.receptive_field
        frames = (attention_mask.shape[1] - field) // steps + 1
        lengths = (attention_mask.sum(dim=1) - field) // steps + 1
        return torch.arange(frames, device=attention_mask.device) < lengths[:, None]

    def split_tokens(self, hidden_states, attention_mask=None):
        valid = self.frame_mask(attention_mask)
        if valid is None:
            valid = hidden_states.new_ones(hidden_states.shape[:2], dtype=torch.bool)
        elif valid.shape != hidden_states.shape[:2]:  # the mask of other clips, or an adapter that merges frames
            shapes = tuple(valid.shape), tuple(hidden_states.shape[:2])
            raise ValueError(f"attention_mask: makes a mask of frames {shapes[0]}, expected {shapes[1]}")
        return None, hidden_states[:, :, None], valid

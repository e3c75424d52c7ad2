# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Encoders whose tokens are the patches of a spectrogram."""

from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from hf_audio_ssl.modules.masking import gather_tokens
from hf_audio_ssl.modules.patch_embed import check_spectrogram, patch_attention_mask


class PatchTokensMixin:
    """Square patches, time-major, behind `num_prefix_tokens` tokens, of which the first stands for the clip."""

    num_prefix_tokens = 1

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        """Frame mask (batch, frames), 1 = real -> patch mask (batch, patches), bool."""
        return patch_attention_mask(attention_mask, self.config.patch_size, self.config.num_mel_patches)

    @property
    def input_steps_per_frame(self) -> int:
        return self.config.patch_size

    def split_tokens(self, hidden_states, attention_mask=None):
        tokens = hidden_states[:, self.num_prefix_tokens :].unflatten(1, (-1, self.config.num_mel_patches))
        if attention_mask is None:
            valid = tokens.new_ones(tokens.shape[:2]).bool()
        else:
            valid = self.token_mask(attention_mask).unflatten(1, tokens.shape[1:3]).all(dim=2)
        return hidden_states[:, 0] if self.num_prefix_tokens else None, tokens, valid


class PatchTransformerMixin(PatchTokensMixin):
    """A plain transformer over patches. A method builds `embeddings`, `layers` and `final_norm`."""

    embeddings: nn.Module
    layers: nn.ModuleList
    final_norm: nn.Module

    def pool(self, hidden_states: Tensor, valid: Tensor | None) -> Tensor:
        """Last hidden state (batch, tokens, dim) and mask of its patches -> `pooler_output` (batch, dim)."""
        return hidden_states[:, 0]

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        visible: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            input_values: log mel (batch, frames, num_mel_bins).
            attention_mask: (batch, frames), 1 = real. Patches that reach beyond the real frames are not attended to.
            visible: indices of the patches to encode (batch * clones, count), clones of a clip adjacent; None = all.
        """
        check_spectrogram(self.config, input_values, attention_mask)
        hidden_states = self.embeddings(input_values, visible)
        valid = mask = None
        if attention_mask is not None:
            valid = self.token_mask(attention_mask)
            if visible is not None:
                valid = gather_tokens(valid[..., None], visible)[..., 0]
            mask = F.pad(valid, (self.num_prefix_tokens, 0), value=True)
        mask = create_bidirectional_mask(self.config, hidden_states, mask)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        hidden_states = self.final_norm(hidden_states)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states, pooler_output=self.pool(hidden_states, valid)
        )

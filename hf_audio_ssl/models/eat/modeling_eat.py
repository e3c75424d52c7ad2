# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""EAT: Self-Supervised Pre-Training with Efficient Audio Transformer (arXiv 2401.03497).

A student sees a fifth of a clip's patches and predicts what an exponential moving average of itself makes of the whole
clip: each masked patch (frame loss), and the mean of all patches from its class token (utterance loss). Many masks
of one clip share a single pass of the teacher.
"""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from hf_audio_ssl.modeling_base import AudioSSLPreTrainedModel
from hf_audio_ssl.modeling_heads import AudioClassificationMixin, AudioFrameClassificationMixin
from hf_audio_ssl.models.eat.configuration_eat import EatConfig
from hf_audio_ssl.models.eat.feature_extraction_eat import EatFeatureExtractor
from hf_audio_ssl.modules.decoders import ConvDecoder2d
from hf_audio_ssl.modules.ema import ema_update, make_teacher
from hf_audio_ssl.modules.masking import (
    check_mask,
    gather_tokens,
    inverse_block_mask,
    num_visible,
    scatter_tokens,
    visible_indices,
)
from hf_audio_ssl.modules.normalisation import normalise_over_time
from hf_audio_ssl.modules.patch_embed import PatchEmbedding, patch_attention_mask
from hf_audio_ssl.modules.positional import sincos_table_2d
from hf_audio_ssl.modules.transformer import FeedForward, SelfAttention, TransformerLayer
from hf_audio_ssl.schedules import linear_anneal


@dataclass
class EatForPreTrainingOutput(ModelOutput):
    """
    loss (): weighted sum of `frame_loss` and `utterance_loss`.
    target_std, prediction_std (): standard deviation over tokens, averaged over dimensions; near zero = collapse.
    masked_share (): share of the patches that are masked.
    targets (batch, patches, hidden_size), predictions (batch * clones, patches, hidden_size),
    utterance_prediction (batch * clones, hidden_size), bool_masked_pos (batch * clones, patches): 1 = masked.
    hidden_states, attentions: of the student, class token and visible patches only.
    """

    loss: Tensor | None = None
    frame_loss: Tensor | None = None
    utterance_loss: Tensor | None = None
    target_std: Tensor | None = None
    prediction_std: Tensor | None = None
    masked_share: Tensor | None = None
    targets: Tensor | None = None
    predictions: Tensor | None = None
    utterance_prediction: Tensor | None = None
    bool_masked_pos: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class EatEmbeddings(nn.Module):
    """Patches plus fixed positions, behind a class token that has no position; then a layer norm."""

    def __init__(self, config: EatConfig):
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config.patch_size, config.hidden_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.register_buffer("positions", self.position_table(), persistent=False)

    def position_table(self) -> Tensor:
        # frequency in the first half of the dimensions, time in the second
        return sincos_table_2d(self.config.max_time_patches, self.config.num_mel_patches, self.config.hidden_size)

    def forward(self, input_values: Tensor, visible: Tensor | None = None) -> Tensor:
        """(batch, frames, mels) -> (batch, 1 + patches, dim), or (batch * clones, 1 + visible, dim) of the patches
        `visible`.
        """
        patches = self.patch_embedding(input_values)
        if patches.shape[1] > len(self.positions):
            raise ValueError(
                f"input_values: got {input_values.shape[1]} frames, expected at most "
                f"{self.config.max_time_patches * self.config.patch_size}; `encode` cuts longer clips into windows"
            )
        patches = patches + self.positions[: patches.shape[1]].to(patches.dtype)
        if visible is not None:
            patches = gather_tokens(patches, visible)
        # not len(): it would fix the batch size in an export
        cls = self.cls_token.to(patches.dtype).expand(patches.shape[0], -1, -1)
        return self.norm(torch.cat([cls, patches], dim=1))


class EatPreTrainedModel(AudioSSLPreTrainedModel):
    """Names, initialisation and what can be recorded, for all EAT models."""

    config: EatConfig
    base_model_prefix = "eat"
    feature_extractor_class = EatFeatureExtractor
    _no_split_modules = ["EatEmbeddings", "TransformerLayer"]
    _input_embed_layer = "patch_embedding"
    _can_record_outputs = {
        "hidden_states": TransformerLayer,
        "attentions": SelfAttention,
        # output of each feed-forward before its residual: what the teacher's targets are made of
        "ffn_states": OutputRecorder(FeedForward, index=0),
    }
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^decoder\."]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, EatEmbeddings):
            init.normal_(module.cls_token, std=1.0)
            init.copy_(module.positions, module.position_table())


class EatModel(EatPreTrainedModel):
    """The encoder: class token and patches through post-norm transformer layers."""

    def __init__(self, config: EatConfig):
        super().__init__(config)
        self.embeddings = EatEmbeddings(config)
        self.layers = nn.ModuleList(TransformerLayer(config, i) for i in range(config.num_hidden_layers))
        self.post_init()

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
        hidden_states = self.embeddings(input_values, visible)
        if attention_mask is not None:
            mask = patch_attention_mask(attention_mask, self.config.patch_size, self.config.num_mel_patches)
            if visible is not None:
                mask = gather_tokens(mask[..., None], visible)[..., 0]
            attention_mask = F.pad(mask, (1, 0), value=True)
        mask = create_bidirectional_mask(self.config, hidden_states, attention_mask)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states[:, 0])

    @property
    def input_steps_per_frame(self) -> int:
        return self.config.patch_size

    def split_tokens(self, hidden_states, attention_mask=None):
        columns = self.config.num_mel_patches
        tokens = hidden_states[:, 1:].unflatten(1, (-1, columns))
        if attention_mask is None:
            valid = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        else:
            valid = patch_attention_mask(attention_mask, self.config.patch_size, 1)
        return hidden_states[:, 0], tokens, valid


class EatForPreTraining(EatPreTrainedModel):
    """EAT's objective (section 3.3): frame loss and utterance loss against an EMA teacher."""

    collapse_meters = {"target_std": (0.1, None), "prediction_std": (0.01, None)}

    def __init__(self, config: EatConfig):
        super().__init__(config)
        self.eat = EatModel(config)
        self.decoder = ConvDecoder2d(
            config.hidden_size,
            config.decoder_hidden_size,
            config.decoder_num_layers,
            config.decoder_kernel_size,
            config.decoder_groups,
        )
        self.teacher = make_teacher(self.eat)
        self.post_init()

    def teacher_pairs(self):
        return [(self.teacher, self.eat)]

    def ema_decay_at(self, step: int) -> float:
        config = self.config
        return linear_anneal(step, config.ema_decay, config.ema_end_decay, config.ema_anneal_steps)

    def after_optimizer_step(self, step: int) -> None:
        ema_update(self.teacher, self.eat, self.ema_decay_at(step))

    @torch.no_grad()
    def make_targets(self, input_values: Tensor, attention_mask: Tensor | None, valid: Tensor) -> Tensor:
        """Mean of the teacher's last k feed-forward outputs, each normalised over the clip's real patches, then over
        channels.
        """
        states = self.teacher(input_values, attention_mask, output_ffn_states=True).ffn_states
        target = 0
        for state in states[-(self.config.average_top_k_layers or len(states)) :]:
            target = target + normalise_over_time(state[:, 1:].float(), valid)
        return F.layer_norm(target / (self.config.average_top_k_layers or len(states)), target.shape[-1:])

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EatForPreTrainingOutput:
        """
        Args:
            input_values: log mel (batch, frames, num_mel_bins).
            attention_mask: (batch, frames), 1 = real. Padded patches are neither attended to nor predicted.
            bool_masked_pos: (batch * clones, patches), 1 = masked, clones of a clip adjacent; drawn if None.
            mask_noise: (batch * clones, patches, hidden_size), the decoder's input at masked patches; drawn if None.
        """
        config = self.config
        batch, grid = len(input_values), (input_values.shape[1] // config.patch_size, config.num_mel_patches)
        patches, device = grid[0] * grid[1], input_values.device

        # 1. mask: several masks for each clip
        if bool_masked_pos is None:
            bool_masked_pos = inverse_block_mask(
                batch * config.num_clones,
                grid,
                config.mask_ratio,
                block_size=config.mask_block_size,
                adjust=config.mask_ratio_adjust,
                device=device,
            )
            count = num_visible(patches, config.mask_ratio)
            if not count:
                raise ValueError(f"mask_ratio={config.mask_ratio} leaves none of {patches} patches visible")
        else:
            bool_masked_pos = bool_masked_pos.bool()
            count = check_mask(bool_masked_pos, patches, batch)
        clones = len(bool_masked_pos) // batch
        visible = visible_indices(bool_masked_pos, count)

        # 2. encode the visible patches
        outputs = self.eat(input_values, attention_mask, visible, **kwargs)
        encoded = outputs.last_hidden_state
        utterance_prediction = encoded[:, 0]

        # 3. predict: visible patches back in their places, noise elsewhere
        if mask_noise is None:
            shape = (batch * clones, patches, config.hidden_size)
            mask_noise = torch.randn(shape, device=device, dtype=encoded.dtype) * config.mask_noise_std
        if attention_mask is None:
            valid = torch.ones(batch, patches, dtype=torch.bool, device=device)
            inside = None
        else:
            valid = patch_attention_mask(attention_mask, config.patch_size, config.num_mel_patches)
            inside = valid.repeat_interleave(clones, dim=0)
        predictions = self.decoder(scatter_tokens(mask_noise, visible, encoded[:, 1:]), grid, inside)

        # 4. target: one pass of the teacher over the whole clip
        targets = self.make_targets(input_values, attention_mask, valid)

        # 5. loss: equations 4 and 5; both summed over channels and divided by sqrt(dim), as in data2vec 2.0
        scale = config.hidden_size**-0.5
        by_clone = predictions.float().unflatten(0, (batch, clones))
        scored = bool_masked_pos.unflatten(0, (batch, clones)) & valid[:, None]
        error = (by_clone - targets[:, None]).square().sum(dim=-1) * scale
        frame_loss = (error * scored).sum() / scored.sum().clamp(min=1)
        weight = valid[..., None].to(targets.dtype)
        clip_target = (targets * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        error = (utterance_prediction.float().unflatten(0, (batch, clones)) - clip_target[:, None]).square()
        utterance_loss = error.sum(dim=-1) * scale
        utterance_loss = utterance_loss.sum() if config.utterance_loss_reduction == "sum" else utterance_loss.mean()
        frame_loss = frame_loss * config.frame_loss_weight
        utterance_loss = utterance_loss * config.utterance_loss_weight

        return EatForPreTrainingOutput(
            loss=frame_loss + utterance_loss if return_loss else None,
            frame_loss=frame_loss,
            utterance_loss=utterance_loss,
            target_std=targets.flatten(0, 1).std(dim=0).mean(),
            prediction_std=predictions.detach().float().flatten(0, 1).std(dim=0).mean(),
            masked_share=scored.float().mean(),
            targets=targets,
            predictions=predictions,
            utterance_prediction=utterance_prediction,
            bool_masked_pos=bool_masked_pos.long(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class EatForAudioClassification(AudioClassificationMixin, EatPreTrainedModel):
    """Clip labels from the class token, as the authors fine-tune, or from the mean of the patches."""

    encoder_class = EatModel


class EatForAudioFrameClassification(AudioFrameClassificationMixin, EatPreTrainedModel):
    """Labels of time patches, 160 ms each by default."""

    encoder_class = EatModel


__all__ = [
    "EatModel",
    "EatPreTrainedModel",
    "EatForPreTraining",
    "EatForAudioClassification",
    "EatForAudioFrameClassification",
]

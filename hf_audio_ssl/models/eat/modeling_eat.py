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
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.output_capturing import OutputRecorder

from hf_audio_ssl.modeling_base import AudioSSLPreTrainedModel
from hf_audio_ssl.modeling_heads import AudioClassificationMixin, AudioFrameClassificationMixin
from hf_audio_ssl.modeling_outputs import MaskedPredictionOutput
from hf_audio_ssl.modeling_spectrogram import PatchTransformerMixin
from hf_audio_ssl.models.eat.configuration_eat import EatConfig
from hf_audio_ssl.models.eat.feature_extraction_eat import EatFeatureExtractor
from hf_audio_ssl.modules.decoders import ConvDecoder2d
from hf_audio_ssl.modules.ema import ema_update, make_teacher
from hf_audio_ssl.modules.masking import gather_tokens, inverse_block_mask, num_visible, scatter_tokens, take_or_draw
from hf_audio_ssl.modules.normalisation import normalise_over_time
from hf_audio_ssl.modules.patch_embed import PatchEmbedding
from hf_audio_ssl.modules.pooling import masked_mean, token_std
from hf_audio_ssl.modules.positional import sincos_table_2d
from hf_audio_ssl.modules.transformer import FeedForward, SelfAttention, TransformerLayer
from hf_audio_ssl.schedules import linear_anneal


@dataclass
class EatForPreTrainingOutput(MaskedPredictionOutput):
    """
    loss (): weighted sum of `frame_loss` and `utterance_loss`.
    target_std, prediction_std (): standard deviation over tokens, averaged over dimensions; near zero = collapse.
    targets (batch, patches, hidden_size), predictions (batch * clones, patches, hidden_size),
    utterance_prediction (batch * clones, hidden_size), bool_masked_pos (batch * clones, patches): 1 = masked.
    hidden_states, attentions: of the student, class token and visible patches only.
    """

    frame_loss: Tensor | None = None
    utterance_loss: Tensor | None = None
    target_std: Tensor | None = None
    prediction_std: Tensor | None = None
    utterance_prediction: Tensor | None = None


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


class EatModel(PatchTransformerMixin, EatPreTrainedModel):
    """The encoder: class token and patches through post-norm transformer layers."""

    def __init__(self, config: EatConfig):
        super().__init__(config)
        self.embeddings = EatEmbeddings(config)
        self.layers = nn.ModuleList(TransformerLayer(config, i) for i in range(config.num_hidden_layers))
        self.final_norm = nn.Identity()  # each layer ends with a norm
        self.post_init()


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

    def draw_mask(self, batch: int, grid: tuple[int, int], device) -> tuple[Tensor, int]:
        """Masks (batch * clones, patches), True = masked, and the number of visible patches in each."""
        config = self.config
        rows, shape = batch * config.num_clones, {"block_size": config.mask_block_size}
        mask = inverse_block_mask(
            rows, grid, config.mask_ratio, adjust=config.mask_ratio_adjust, device=device, **shape
        )
        return mask, num_visible(grid[0] * grid[1], config.mask_ratio)

    @torch.no_grad()
    def make_targets(self, input_values: Tensor, attention_mask: Tensor | None, valid: Tensor) -> Tensor:
        """Mean of the teacher's last k feed-forward outputs, each normalised over the clip's real patches, then over
        channels.
        """
        states = self.teacher(input_values, attention_mask, output_ffn_states=True).ffn_states
        states = states[-(self.config.average_top_k_layers or len(states)) :]
        target = 0
        for state in states:
            target = target + normalise_over_time(state[:, 1:].float(), valid)
        return F.layer_norm(target / len(states), target.shape[-1:])

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
        bool_masked_pos, visible = take_or_draw(
            bool_masked_pos, batch, patches, lambda: self.draw_mask(batch, grid, device)
        )
        clones = len(bool_masked_pos) // batch

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
            valid = self.eat.token_mask(attention_mask)
            inside = valid.repeat_interleave(clones, dim=0)
        predictions = self.decoder(scatter_tokens(mask_noise, visible, encoded[:, 1:]), grid, inside)

        # 4. target: one pass of the teacher over the whole clip
        targets = self.make_targets(input_values, attention_mask, valid)

        # 5. loss: equations 4 and 5; both summed over channels and divided by sqrt(dim), as in data2vec 2.0
        scale = config.hidden_size**-0.5
        by_clone = predictions.float().unflatten(0, (batch, clones))
        scored = bool_masked_pos.unflatten(0, (batch, clones)) & valid[:, None]
        frame_loss = masked_mean((by_clone - targets[:, None]).square().sum(dim=-1) * scale, scored)
        clip_target = masked_mean(targets, valid, dim=1)[:, None]
        error = (utterance_prediction.float().unflatten(0, (batch, clones)) - clip_target).square().sum(dim=-1) * scale
        utterance_loss = error.sum() if config.utterance_loss_reduction == "sum" else error.mean()
        frame_loss = frame_loss * config.frame_loss_weight
        utterance_loss = utterance_loss * config.utterance_loss_weight

        return EatForPreTrainingOutput(
            loss=frame_loss + utterance_loss if return_loss else None,
            frame_loss=frame_loss,
            utterance_loss=utterance_loss,
            target_std=token_std(targets, valid),
            prediction_std=token_std(predictions),
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

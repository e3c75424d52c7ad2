# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Audio-MAE: Masked Autoencoders that Listen (arXiv 2207.06405).

An encoder sees a fifth of a spectrogram's patches. A decoder that attends in local windows, since what lies near in
time and frequency tells most about a patch, reconstructs the others.
"""

from dataclasses import dataclass
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import TransformersKwargs, can_return_tuple

from hf_audio_ssl.modeling_base import AudioSSLPreTrainedModel
from hf_audio_ssl.modeling_heads import AudioClassificationMixin, AudioFrameClassificationMixin
from hf_audio_ssl.modeling_outputs import MaskedPredictionOutput
from hf_audio_ssl.modeling_spectrogram import PatchTransformerMixin
from hf_audio_ssl.models.audiomae.configuration_audiomae import AudioMaeConfig
from hf_audio_ssl.models.audiomae.feature_extraction_audiomae import AudioMaeFeatureExtractor
from hf_audio_ssl.modules.masking import (
    gather_tokens,
    num_visible,
    random_mask,
    row_column_mask,
    scatter_tokens,
    take_or_draw,
    visible_indices,
)
from hf_audio_ssl.modules.patch_embed import PatchEmbedding, patchify, unpatchify
from hf_audio_ssl.modules.pooling import masked_mean, token_std
from hf_audio_ssl.modules.positional import sincos_table_2d
from hf_audio_ssl.modules.transformer import SelfAttention, TransformerLayer, tag_xavier
from hf_audio_ssl.modules.window_attention import WindowAttention, WindowTransformerLayer


@dataclass
class AudioMaeForPreTrainingOutput(MaskedPredictionOutput):
    """
    loss, reconstruction_loss (): the mean squared error of the masked patches.
    target_std, prediction_std (): standard deviation over patches, averaged over their cells; a prediction near zero
    is the same for every patch.
    predictions, targets (batch, patches, patch_size^2): normalised patch by patch if `config.norm_pix_loss`.
    reconstruction (batch, frames, num_mel_bins): the predicted spectrogram in the units of `input_values`, if asked
    for.
    """

    reconstruction_loss: Tensor | None = None
    target_std: Tensor | None = None
    prediction_std: Tensor | None = None
    reconstruction: Tensor | None = None


class AudioMaePositions(nn.Module):
    """The codes of class token and patches: a fixed table, computed for any length, or a learned one."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        if config.position_embedding == "learned":
            self.table = nn.Parameter(
                torch.empty(1 + config.num_time_patches * config.num_mel_patches, config.hidden_size)
            )

    def fixed(self, patches: int, device=None) -> Tensor:
        """(1 + patches, hidden_size). The class token's code is zero."""
        config = self.config
        # quirk of the original (its PatchEmbed_org reports frequency before time): the table is that of the transposed
        # grid, so the code and the place of a patch disagree
        width = config.num_mel_patches if config.position_embedding == "aligned" else config.num_time_patches
        codes = sincos_table_2d(-(-patches // width), width, config.hidden_size, device=device)
        return F.pad(codes[:patches], (0, 0, 1, 0))

    def forward(self, patches: int, like: Tensor) -> Tensor:
        """(1 + patches, hidden_size) with the type and device of `like`."""
        if self.config.position_embedding != "learned":
            return self.fixed(patches, like.device).to(like.dtype)
        if patches >= len(self.table):
            raise ValueError(
                f"input_values: got {patches} patches, expected at most {len(self.table) - 1}, those whose positions "
                "were learned; `encode` cuts longer clips into windows"
            )
        return self.table[: 1 + patches].to(like.dtype)


class AudioMaeEmbeddings(nn.Module):
    """Patches behind a class token, plus positions."""

    def __init__(self, config: AudioMaeConfig):
        super().__init__()
        self.patch_embedding = PatchEmbedding(config.patch_size, config.hidden_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.positions = AudioMaePositions(config)

    def forward(self, input_values: Tensor, visible: Tensor | None = None) -> Tensor:
        """(batch, frames, mels) -> (batch, 1 + patches, dim), of the patches `visible` if given."""
        patches = self.patch_embedding(input_values)
        positions = self.positions(patches.shape[1], patches)
        patches = patches + positions[1:]
        if visible is not None:
            patches = gather_tokens(patches, visible)
        cls = self.cls_token.to(patches.dtype) + positions[0]
        return torch.cat([cls.expand(patches.shape[0], -1, -1), patches], dim=1)


class AudioMaeDecoder(nn.Module):
    """Predicts all patches from the visible ones: plain transformer layers, or local windows without class token."""

    def __init__(self, config: AudioMaeConfig):
        super().__init__()
        self.config = config
        sizes = config.part("decoder_")
        self.embed = nn.Linear(config.hidden_size, sizes.hidden_size)
        self.mask_token = nn.Parameter(torch.empty(1, 1, sizes.hidden_size))
        self.positions = AudioMaePositions(sizes)
        if config.decoder_type == "local":
            layer = partial(
                WindowTransformerLayer,
                window_size=config.decoder_window_size,
                shift=config.decoder_window_shift,
                bias_hidden_size=config.decoder_bias_hidden_size,
                bias_dropout=config.decoder_bias_dropout,
            )
        else:
            layer = partial(TransformerLayer, norm_first=True)
        self.layers = nn.ModuleList(layer(sizes, i) for i in range(sizes.num_hidden_layers))
        self.norm = nn.LayerNorm(sizes.hidden_size, eps=config.layer_norm_eps)
        self.prediction = nn.Linear(sizes.hidden_size, config.patch_size**2)

    def forward(self, encoded: Tensor, visible: Tensor, grid: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """encoded (batch, 1 + visible, hidden_size) -> (batch, rows * columns, patch_size^2).

        Where `valid` (batch, rows * columns) is False is padding, not attended to.
        """
        x, count = self.embed(encoded), grid[0] * grid[1]
        positions = self.positions(count, x)
        masked = self.mask_token.to(x.dtype).expand(len(x), count, -1)
        patches = scatter_tokens(masked, visible, x[:, 1:]) + positions[1:]
        if self.config.decoder_type == "local":
            for layer in self.layers:
                patches = layer(patches, grid, valid)
        else:
            x = torch.cat([x[:, :1] + positions[0], patches], dim=1)
            mask = None if valid is None else F.pad(valid, (1, 0), value=True)
            mask = create_bidirectional_mask(self.config, x, mask)
            for layer in self.layers:
                x = layer(x, mask)
            patches = x[:, 1:]
        return self.prediction(self.norm(patches))


class AudioMaePreTrainedModel(AudioSSLPreTrainedModel):
    """Names, initialisation and what can be recorded, for all Audio-MAE models."""

    config: AudioMaeConfig
    base_model_prefix = "audiomae"
    feature_extractor_class = AudioMaeFeatureExtractor
    _no_split_modules = ["AudioMaeEmbeddings", "TransformerLayer", "WindowTransformerLayer"]
    _input_embed_layer = "patch_embedding"
    _can_record_outputs = {"hidden_states": TransformerLayer, "attentions": SelfAttention}
    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"(^|\.)final_norm\."]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, AudioMaeEmbeddings):
            init.normal_(module.cls_token, std=self.config.initializer_range)
        elif isinstance(module, AudioMaeDecoder):
            init.normal_(module.mask_token, std=self.config.initializer_range)
        elif isinstance(module, AudioMaePositions):
            init.copy_(module.table, module.fixed(len(module.table) - 1, "cpu"))
        elif isinstance(module, WindowAttention):
            init.ones_(module.temperature)


class AudioMaeModel(PatchTransformerMixin, AudioMaePreTrainedModel):
    """The encoder: class token and patches through pre-norm transformer layers, and a final norm.

    `pooler_output` is the mean of the real patches; hidden states have not passed the final norm. The supervised heads
    have `final_norm=False`: as in the original their own norm, after pooling, takes its place.
    """

    def __init__(self, config: AudioMaeConfig, final_norm: bool = True):
        super().__init__(config)
        self.embeddings = AudioMaeEmbeddings(config)
        self.layers = nn.ModuleList(
            TransformerLayer(config, i, norm_first=True) for i in range(config.num_hidden_layers)
        )
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.final_norm = norm if final_norm else nn.Identity()
        tag_xavier(self)
        self.post_init()

    def pool(self, hidden_states, valid):
        return masked_mean(hidden_states[:, 1:], valid, dim=1)

    def contextual_embedding(self, hidden_states: tuple[Tensor, ...], first_layer: int = 9) -> Tensor:
        """Mean of the normed outputs of the layers from `first_layer` (counted from 0) on: what the original returns
        for whole clips, and what AudioLDM 2 is conditioned on. `hidden_states` as `forward` returns them.
        """
        states = hidden_states[first_layer + 1 :]
        if not states:
            raise ValueError(f"first_layer: got {first_layer}, expected less than {len(hidden_states) - 1} layers")
        return torch.stack([self.final_norm(state) for state in states]).mean(dim=0)


class AudioMaeForPreTraining(AudioMaePreTrainedModel):
    """Audio-MAE's objective (section 3): reconstruct the masked patches."""

    collapse_meters = {"target_std": (0.1, None), "prediction_std": (0.01, None)}

    def __init__(self, config: AudioMaeConfig):
        super().__init__(config)
        self.audiomae = AudioMaeModel(config)
        self.decoder = AudioMaeDecoder(config)
        tag_xavier(self.decoder)
        self.post_init()

    def draw_mask(self, batch: int, grid: tuple[int, int], device) -> tuple[Tensor, int]:
        """Bool mask (batch, patches), True = masked, and the number of visible patches of each clip."""
        config = self.config
        if config.mask_strategy == "patches":
            count = num_visible(grid[0] * grid[1], config.mask_ratio)
            return random_mask(batch, grid[0] * grid[1], config.mask_ratio, device=device), count
        ratios = config.mask_time_ratio, config.mask_frequency_ratio
        count = num_visible(grid[0], ratios[0]) * num_visible(grid[1], ratios[1])
        return row_column_mask(batch, grid, *ratios, device=device), count

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        return_loss: bool = True,
        output_reconstruction: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> AudioMaeForPreTrainingOutput:
        """
        Args:
            input_values: log mel (batch, frames, num_mel_bins).
            attention_mask: (batch, frames), 1 = real. Padded patches are neither attended to nor predicted.
            bool_masked_pos: (batch, patches), 1 = masked, the same number in every row; drawn if None.
            output_reconstruction: also return the predicted spectrogram.
        """
        config = self.config
        batch, grid = len(input_values), (input_values.shape[1] // config.patch_size, config.num_mel_patches)
        patches = grid[0] * grid[1]

        # 1. mask
        bool_masked_pos, visible = take_or_draw(
            bool_masked_pos, batch, patches, lambda: self.draw_mask(batch, grid, input_values.device)
        )

        # 2. encode the visible patches
        outputs = self.audiomae(input_values, attention_mask, visible, **kwargs)

        # 3. predict: visible patches back in their places, a learned token elsewhere
        valid = None if attention_mask is None else self.audiomae.token_mask(attention_mask)
        predictions = self.decoder(outputs.last_hidden_state, visible, grid, valid)

        # 4. target: the patches themselves
        pixels = patchify(input_values, config.patch_size).float()
        mean, std = 0.0, 1.0
        if config.norm_pix_loss:
            mean, std = pixels.mean(dim=-1, keepdim=True), (pixels.var(dim=-1, keepdim=True) + 1e-6).sqrt()
        targets = (pixels - mean) / std

        # 5. loss: over masked patches only
        scored = bool_masked_pos if valid is None else bool_masked_pos & valid
        loss = masked_mean((predictions.float() - targets).square().mean(dim=-1), scored)

        reconstruction = None
        if output_reconstruction:
            reconstruction = unpatchify(predictions.float() * std + mean, config.patch_size, config.num_mel_patches)
        return AudioMaeForPreTrainingOutput(
            loss=loss if return_loss else None,
            reconstruction_loss=loss,
            target_std=token_std(targets, valid),
            prediction_std=token_std(predictions),
            masked_share=scored.float().mean(),
            predictions=predictions,
            targets=targets,
            reconstruction=reconstruction,
            bool_masked_pos=bool_masked_pos.long(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class AudioMaeForAudioClassification(AudioClassificationMixin, AudioMaePreTrainedModel):
    """Clip labels from the mean of the patches. In training it may see only some columns and rows of them."""

    encoder_class = partial(AudioMaeModel, final_norm=False)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        visible: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_values, attention_mask: what the encoder takes.
            labels: class ids (batch,), or probabilities / multi-hot (batch, num_labels).
            visible: indices of the patches to encode (batch, count). None: all; in training what
                `config.classifier_mask_time_ratio` and `classifier_mask_frequency_ratio` leave.
        """
        ratios = self.config.classifier_mask_time_ratio, self.config.classifier_mask_frequency_ratio
        if visible is None and self.training and any(ratios):
            grid = (input_values.shape[1] // self.config.patch_size, self.config.num_mel_patches)
            mask = row_column_mask(len(input_values), grid, *ratios, device=input_values.device)
            visible = visible_indices(mask, num_visible(grid[0], ratios[0]) * num_visible(grid[1], ratios[1]))
        return super().forward(input_values, attention_mask, labels, visible=visible, **kwargs)

    def pool(self, outputs, attention_mask):
        if self.config.classifier_pooling == "cls":
            return outputs.last_hidden_state[:, 0]
        return outputs.pooler_output


class AudioMaeForAudioFrameClassification(AudioFrameClassificationMixin, AudioMaePreTrainedModel):
    """Labels of time patches, 160 ms each by default."""

    encoder_class = partial(AudioMaeModel, final_norm=False)

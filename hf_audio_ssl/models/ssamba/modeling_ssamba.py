# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""SSAMBA: Self-Supervised Audio Representation Learning with Mamba State Space Model (arXiv 2405.11831).

SSAST's task without attention. Patches are masked in clusters; from what bidirectional state spaces make of the rest,
one head must tell the masked patches of a clip apart (contrastive), another must draw them again (generative).
"""

import math
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from hf_audio_ssl.modeling_base import AudioSSLPreTrainedModel
from hf_audio_ssl.modeling_heads import AudioClassificationMixin, AudioFrameClassificationMixin
from hf_audio_ssl.modeling_outputs import MaskedPredictionOutput
from hf_audio_ssl.models.ssamba.configuration_ssamba import SsambaConfig
from hf_audio_ssl.models.ssamba.feature_extraction_ssamba import SsambaFeatureExtractor
from hf_audio_ssl.modules.cluster_masking import cluster_mask
from hf_audio_ssl.modules.masking import check_mask, gather_tokens, scatter_tokens, visible_indices
from hf_audio_ssl.modules.patch_embed import check_spectrogram
from hf_audio_ssl.modules.pooling import masked_mean, token_std
from hf_audio_ssl.modules.state_space import BidirectionalMamba, SelectiveStateSpace
from hf_audio_ssl.modules.strided_patches import StridedPatchEmbedding, pixels, positions_for_grid, real_columns
from hf_audio_ssl.modules.transformer import DropPath


@dataclass
class SsambaForPreTrainingOutput(MaskedPredictionOutput):
    """
    loss (): `contrastive_loss` + `generative_loss_weight` x `generative_loss`.
    accuracy (): share of the masked patches that the contrastive head tells from the others of their clip.
    prediction_std (): standard deviation of its predictions over patches, averaged over dimensions.
    targets, predictions (batch, masked, patch_size^2): pixels of the masked patches, and the contrastive predictions.
    reconstruction (batch, masked, patch_size^2): of the patches of the generative mask.
    bool_masked_pos, bool_masked_pos_generative (batch, patches): 1 = masked.
    hidden_states: of both passes, one behind the other along the batch.
    """

    contrastive_loss: Tensor | None = None
    generative_loss: Tensor | None = None
    accuracy: Tensor | None = None
    prediction_std: Tensor | None = None
    reconstruction: Tensor | None = None
    bool_masked_pos_generative: Tensor | None = None


class SsambaEmbeddings(nn.Module):
    """Patches, frequency-major, behind a class token; learned positions for all of them."""

    def __init__(self, config: SsambaConfig):
        super().__init__()
        self.config = config
        self.patch_embedding = StridedPatchEmbedding(
            config.patch_size, config.frequency_stride, config.time_stride, config.hidden_size
        )
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.cls_position = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.positions = nn.Parameter(torch.empty(config.position_rows, config.position_columns, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_values: Tensor, columns: Tensor | None, mask: Tensor | None, mask_token: Tensor | None):
        """(batch, frames, mels) -> (batch, 1 + patches, dim). `columns` (batch,): real time patches of each clip."""
        patches = self.patch_embedding(input_values)
        if mask is not None:
            patches = torch.where(mask[..., None], mask_token.to(patches.dtype), patches)
        rows = self.config.num_mel_patches
        positions = positions_for_grid(self.positions, (rows, patches.shape[1] // rows), columns).flatten(1, 2)
        patches = patches + positions.to(patches.dtype)
        cls = (self.cls_token + self.cls_position).to(patches.dtype).expand(patches.shape[0], -1, -1)
        return self.dropout(torch.cat([cls, patches], dim=1))


class SsambaBlock(nn.Module):
    """Norm and mixer; the residual is the layer's."""

    def __init__(self, config: SsambaConfig, norm: nn.Module, drop_path: float):
        super().__init__()
        self.norm = norm
        self.mixer = BidirectionalMamba(
            config.hidden_size, config.intermediate_size, config.state_size, config.conv_kernel, config.time_step_rank
        )
        # the branches of a deep stack start small (GPT-2), as Vim's do
        self.mixer.out_proj._init_gain = (config.num_hidden_layers * (2 if config.bidirectional else 1)) ** -0.5
        self.drop_path = DropPath(drop_path)

    def forward(self, hidden_states: Tensor, valid: Tensor | None, reverse: bool) -> Tensor:
        return self.drop_path(self.mixer(self.norm(hidden_states), valid, reverse))


class SsambaLayer(GradientCheckpointingLayer):
    """A pair of blocks, of which the second sees the flipped sequence; or one block alone."""

    def __init__(self, config: SsambaConfig, layer_index: int):
        super().__init__()
        width = 2 if config.bidirectional else 1
        deepest = max(config.num_hidden_layers * width - 1, 1)
        self.blocks = nn.ModuleList(
            SsambaBlock(config, make_norm(config), config.drop_path_rate * (layer_index * width + i) / deepest)
            for i in range(width)
        )

    def forward(
        self, hidden_states: Tensor, order: Tensor | None = None, valid: Tensor | None = None, **kwargs
    ) -> Tensor:
        """`order` (batch, tokens) sorts the real tokens to the front, `valid` (batch, tokens, 1) tells which they are.

        A pair adds up its residuals too (as in Vim's models_mamba.py), so the stream doubles from layer to layer.
        """
        x = hidden_states if order is None else gather_tokens(hidden_states, order)
        mixed = sum(block(x, valid, reverse=bool(i)) for i, block in enumerate(self.blocks))
        if order is not None:
            mixed = scatter_tokens(torch.zeros_like(mixed), order, mixed)
        return len(self.blocks) * hidden_states + mixed


def make_norm(config: SsambaConfig) -> nn.Module:
    return (nn.RMSNorm if config.rms_norm else nn.LayerNorm)(config.hidden_size, eps=config.layer_norm_eps)


class SsambaPreTrainedModel(AudioSSLPreTrainedModel):
    """Names, initialisation and what can be recorded, for all SSAMBA models."""

    config: SsambaConfig
    base_model_prefix = "ssamba"
    feature_extractor_class = SsambaFeatureExtractor
    _no_split_modules = ["SsambaEmbeddings", "SsambaLayer"]
    _input_embed_layer = "patch_embedding"
    # there is no attention
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_flex_attn = False
    _supports_attention_backend = False
    _can_record_outputs = {
        "hidden_states": SsambaLayer,
        # what each block adds to the stream
        "block_states": OutputRecorder(SsambaBlock, index=0),
    }
    _keys_to_ignore_on_load_unexpected = [r"^mask_token$", r"^contrastive_head\.", r"^generative_head\."]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, SelectiveStateSpace):
            module.initialize()
        elif isinstance(module, SsambaEmbeddings):
            for parameter in (module.cls_token, module.cls_position, module.positions):
                init.trunc_normal_(parameter, std=self.config.initializer_range)
        elif gain := getattr(module, "_init_gain", None):
            bound = gain * module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)


class SsambaModel(SsambaPreTrainedModel):
    """The encoder: class token and patches through pairs of bidirectional state space blocks."""

    def __init__(self, config: SsambaConfig):
        super().__init__(config)
        self.embeddings = SsambaEmbeddings(config)
        self.layers = nn.ModuleList(SsambaLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = make_norm(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs  # the last hidden state is the normed one: before the norm its scale grows as 2^layers
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        mask_token: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            input_values: log mel (batch, frames, num_mel_bins).
            attention_mask: (batch, frames), 1 = real. The scans skip patches that reach beyond the real frames.
            bool_masked_pos: (batch, patches), 1 = replaced by `mask_token` (1, 1, hidden_size); None = no patch.
        """
        check_spectrogram(self.config, input_values, attention_mask)
        order = valid = columns = None
        if attention_mask is not None:
            real = real_columns(attention_mask, self.config.patch_size, self.config.time_stride)
            columns = real.sum(dim=1)
            real = F.pad(real.repeat(1, self.config.num_mel_patches), (1, 0), value=True)
            # the real tokens as a sequence of their own: a scan has neighbours, and padding must not be one
            order = real.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
            valid = real.gather(1, order)[..., None]
        mask = None if bool_masked_pos is None else bool_masked_pos.bool()
        hidden_states = self.embeddings(input_values, columns, mask, mask_token)
        for layer in self.layers:
            hidden_states = layer(hidden_states, order, valid, **kwargs)
        # twice, as in both_models.py; the second time is no identity, since the norm has weights
        hidden_states = self.norm(self.norm(hidden_states))
        _, tokens, valid = self.split_tokens(hidden_states, attention_mask)
        pooled = masked_mean(tokens.mean(dim=2), valid, dim=1)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)

    @property
    def input_steps_per_frame(self) -> int:
        return self.config.time_stride

    @property
    def receptive_field(self) -> int:
        return self.config.patch_size

    def split_tokens(self, hidden_states, attention_mask=None):
        tokens = hidden_states[:, 1:].unflatten(1, (self.config.num_mel_patches, -1)).transpose(1, 2)
        if attention_mask is None:
            valid = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        else:
            valid = real_columns(attention_mask, self.config.patch_size, self.config.time_stride)
        return hidden_states[:, 0], tokens, valid


class SsambaForPreTraining(SsambaPreTrainedModel):
    """SSAMBA's objective (section 2.3, SSAST's): tell masked patches apart, and draw them again."""

    collapse_meters = {"accuracy": (0.05, None), "prediction_std": (0.01, None)}

    def __init__(self, config: SsambaConfig):
        super().__init__(config)
        if not config.frequency_stride == config.time_stride == config.patch_size:
            raise ValueError(
                f"frequency_stride={config.frequency_stride}, time_stride={config.time_stride}: pre-training needs "
                f"patches without overlap, patch_size={config.patch_size}"
            )
        self.ssamba = SsambaModel(config)
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.contrastive_head = prediction_head(config)
        self.generative_head = prediction_head(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self:
            # Xavier's of a tensor (1, 1, hidden_size), as torch counts its fans
            init.normal_(self.mask_token, std=math.sqrt(1 / self.config.hidden_size))

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        bool_masked_pos_generative: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SsambaForPreTrainingOutput:
        """
        Args:
            input_values: log mel (batch, frames, num_mel_bins).
            attention_mask: (batch, frames), 1 = real. Padded patches are skipped, and neither targets nor negatives.
            bool_masked_pos, bool_masked_pos_generative: (batch, patches), 1 = masked, the same count in every row; the
                masks of the contrastive and the generative pass, drawn if None.
        """
        check_spectrogram(self.config, input_values, attention_mask)  # before the batch is doubled
        config, batch = self.config, len(input_values)
        grid = (config.num_mel_patches, input_values.shape[1] // config.patch_size)

        # 1. mask: each objective has its own
        masks, places = [], []
        for mask in (bool_masked_pos, bool_masked_pos_generative):
            mask, count = self.draw_or_check(mask, batch, grid, input_values.device)
            masks.append(mask)
            places.append(visible_indices(~mask, count))

        # 2. encode both, in one pass over twice as many clips
        twice = [None if x is None else x.repeat_interleave(2, dim=0) for x in (input_values, attention_mask)]
        outputs = self.ssamba(*twice, torch.stack(masks, dim=1).flatten(0, 1), self.mask_token, **kwargs)
        seen = outputs.last_hidden_state[:, 1:].unflatten(0, (-1, 2)).unbind(1)

        # 3. predict the pixels of the masked patches
        predictions = self.contrastive_head(gather_tokens(seen[0], places[0])).float()
        reconstruction = self.generative_head(gather_tokens(seen[1], places[1])).float()

        # 4. target: those pixels
        patches = pixels(input_values, config.patch_size).float()
        targets, originals = (gather_tokens(patches, place) for place in places)
        if attention_mask is None:
            scored = [torch.ones_like(place, dtype=torch.bool) for place in places]
        else:
            real = real_columns(attention_mask, config.patch_size, config.time_stride).repeat(1, grid[0])
            scored = [real.gather(1, place) for place in places]

        # 5. loss: equations 1 to 3 of SSAST; the softmax runs over the predictions of the clip
        contrastive_loss, accuracy = contrast(targets, predictions, scored[0])
        generative_loss = masked_mean((reconstruction - originals).square().mean(dim=-1), scored[1])

        return SsambaForPreTrainingOutput(
            loss=contrastive_loss + config.generative_loss_weight * generative_loss if return_loss else None,
            contrastive_loss=contrastive_loss,
            generative_loss=generative_loss,
            accuracy=accuracy,
            prediction_std=token_std(predictions),
            masked_share=scored[0].sum() / masks[0].numel(),
            targets=targets,
            predictions=predictions,
            reconstruction=reconstruction,
            bool_masked_pos=masks[0].long(),
            bool_masked_pos_generative=masks[1].long(),
            hidden_states=outputs.hidden_states,
        )

    def draw_or_check(self, mask: Tensor | None, batch: int, grid: tuple[int, int], device) -> tuple[Tensor, int]:
        """A mask (batch, patches), bool, and the number of masked patches in each row."""
        patches, config = grid[0] * grid[1], self.config
        if mask is not None:
            return mask.bool(), patches - check_mask(mask, patches, batch)
        count = max(int(patches * config.mask_ratio), 1)
        clusters = dict(min_cluster=config.min_mask_cluster, max_cluster=config.max_mask_cluster)
        return cluster_mask(batch, grid, count, device=device, **clusters), count


def prediction_head(config: SsambaConfig) -> nn.Sequential:
    layers = (
        nn.Linear(config.hidden_size, config.hidden_size),
        nn.ReLU(),
        nn.Linear(config.hidden_size, config.patch_size**2),
    )
    layers[0]._ssl_init = layers[2]._ssl_init = "torch_default"
    return nn.Sequential(*layers)


def contrast(targets: Tensor, predictions: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE within each clip, and how often a prediction is likeliest under its own target, as `mpc` of
    both_models.py has them.

    targets, predictions (batch, masked, pixels), scored (batch, masked), bool.
    """
    logits = targets @ predictions.mT
    logits = logits.masked_fill(~scored[:, None], torch.finfo(logits.dtype).min)
    loss = -masked_mean(logits.log_softmax(dim=-1).diagonal(dim1=1, dim2=2), scored)
    best = logits.detach().softmax(dim=-1).masked_fill(~scored[..., None], -1).argmax(dim=1)
    hits = best == torch.arange(best.shape[1], device=best.device)
    return loss, masked_mean(hits.float(), scored)


class SsambaForAudioClassification(AudioClassificationMixin, SsambaPreTrainedModel):
    """Encoder, mean of the patches (or class token), layer norm, linear head."""

    encoder_class = SsambaModel


class SsambaForAudioFrameClassification(AudioFrameClassificationMixin, SsambaPreTrainedModel):
    """A linear head on every time patch (160 ms by default)."""

    encoder_class = SsambaModel

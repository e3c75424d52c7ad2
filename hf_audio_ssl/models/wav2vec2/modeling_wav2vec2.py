# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations (arXiv 2006.11477).

Convolutions turn the waveform into frames of 20 ms; spans of frames are masked, a transformer sees the rest, and at
each masked frame it has to tell the quantised frame that stood there from those of other masked frames of the clip.

The encoder and the quantiser are transformers' classes, and so are the heads for CTC and classification: checkpoints
open in plain transformers. Here is what they lack: pre-training as the authors do it (feature penalty, slowed
convolutions, temperature schedule, masks and negatives drawn on the device), and `encode`.
"""

import math
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.models.wav2vec2 import modeling_wav2vec2 as native
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.output_capturing import OutputRecorder

from hf_audio_ssl.losses.contrastive import contrastive_logits, sample_negatives
from hf_audio_ssl.modeling_base import AudioSSLPreTrainedModel
from hf_audio_ssl.modeling_waveform import ConvolutionsMixin, WaveformTokensMixin
from hf_audio_ssl.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config
from hf_audio_ssl.models.wav2vec2.feature_extraction_wav2vec2 import Wav2Vec2FeatureExtractor
from hf_audio_ssl.modules.quantizers import gumbel_noise_like, gumbel_one_hot, perplexity, product_codevectors
from hf_audio_ssl.modules.span_masking import span_mask
from hf_audio_ssl.modules.transformer import scale_gradient
from hf_audio_ssl.schedules import exponential_anneal


@dataclass
class Wav2Vec2ForPreTrainingOutput(ModelOutput):
    """
    loss (): sum of the three terms below, for one masked frame: what the authors' trainer makes of their sums, and
    transformers' class leaves to its user.
    contrastive_loss (), diversity_loss (), feature_penalty_loss (): the terms with their weights.
    clip_losses (batch,): mean contrastive loss over the masked frames of each clip.
    code_perplexity, prob_perplexity (): codes in use, by choice and by probability; the number of groups = collapse.
    accuracy (): share of masked frames whose target is told from all distractors.
    masked_share (): of the real frames. temperature (): of the quantiser.
    projected_states, projected_quantized_states (batch, frames, proj_codevector_dim): predictions and targets.
    codes (batch, frames, num_codevector_groups), mask_time_indices (batch, frames): 1 = masked.
    """

    loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    diversity_loss: Tensor | None = None
    feature_penalty_loss: Tensor | None = None
    clip_losses: Tensor | None = None
    code_perplexity: Tensor | None = None
    prob_perplexity: Tensor | None = None
    accuracy: Tensor | None = None
    masked_share: Tensor | None = None
    temperature: Tensor | None = None
    projected_states: Tensor | None = None
    projected_quantized_states: Tensor | None = None
    codes: Tensor | None = None
    mask_time_indices: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class FeatureEncoder(ConvolutionsMixin, native.Wav2Vec2FeatureEncoder):
    """The convolutions, with scaled gradients."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__(config)
        self.grad_mult = config.feature_grad_mult

    def forward(self, input_values: Tensor) -> Tensor:
        return scale_gradient(super().forward(input_values), self.grad_mult)


class Wav2Vec2PreTrainedModel(AudioSSLPreTrainedModel, native.Wav2Vec2PreTrainedModel):
    """Names, initialisation and what can be recorded."""

    config: Wav2Vec2Config
    feature_extractor_class = Wav2Vec2FeatureExtractor
    _no_split_modules = ["Wav2Vec2EncoderLayer", "Wav2Vec2EncoderLayerStableLayerNorm"]
    _input_embed_layer = "feature_extractor"
    _keys_to_ignore_on_load_missing = [r"^gumbel_temperature$"]
    _keys_to_ignore_on_load_unexpected = [r"^quantizer\.", r"^project_(q|hid)\.", r"^gumbel_temperature$"]
    _can_record_outputs = native.Wav2Vec2PreTrainedModel._can_record_outputs | {
        "conv_features": OutputRecorder(FeatureEncoder)
    }

    @property
    def skips_layers(self) -> bool:
        return self.config.layerdrop > 0

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d) and hasattr(module, "parametrizations"):
            # the position's weight norm: transformers initialises the product of the two factors, a temporary
            length, direction = module.parametrizations.weight.original0, module.parametrizations.weight.original1
            init.normal_(direction, std=2 / math.sqrt(module.kernel_size[0] * module.in_channels))
            init.copy_(length, direction.norm(dim=(0, 1), keepdim=True))
            init.zeros_(module.bias)
        elif isinstance(module, Wav2Vec2ForPreTraining):
            init.constant_(module.gumbel_temperature, self.config.gumbel_temperature)


class Wav2Vec2Model(WaveformTokensMixin, Wav2Vec2PreTrainedModel, native.Wav2Vec2Model):
    """The encoder: transformers' own, with `encode`, slowed convolutions, and masks set without waiting."""

    def __init__(self, config: Wav2Vec2Config):
        # transformers' parts under transformers' names; its `__init__` would draw their weights before they are tagged
        super(native.Wav2Vec2Model, self).__init__(config)
        self.feature_extractor = FeatureEncoder(config)
        self.feature_projection = native.Wav2Vec2FeatureProjection(config)
        self.feature_projection.projection._ssl_init = "torch_default"
        if config.mask_time_prob > 0 or config.mask_feature_prob > 0:
            self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size))
        encoder = native.Wav2Vec2EncoderStableLayerNorm if config.do_stable_layer_norm else native.Wav2Vec2Encoder
        self.encoder = encoder(config)
        self.adapter = native.Wav2Vec2Adapter(config) if config.add_adapter else None
        self.post_init()

    def _mask_hidden_states(self, hidden_states, mask_time_indices=None, attention_mask=None):
        if mask_time_indices is None:  # SpecAugment in fine-tuning
            return super()._mask_hidden_states(hidden_states, None, attention_mask)
        return torch.where(mask_time_indices[..., None], self.masked_spec_embed.to(hidden_states.dtype), hidden_states)

    @property
    def padding_changes_outputs(self) -> bool:
        # the group norm of the first convolution spans the padding, as in the original
        return self.config.feat_extract_norm == "group"


class Wav2Vec2ForPreTraining(Wav2Vec2PreTrainedModel, native.Wav2Vec2ForPreTraining):
    """The contrastive objective (sections 2 and 3.2)."""

    collapse_meters = {"code_perplexity": (5.0, None)}

    def __init__(self, config: Wav2Vec2Config):
        # the parent's would build transformers' encoder first
        super(native.Wav2Vec2ForPreTraining, self).__init__(config)
        if config.mask_time_prob <= 0 and config.mask_feature_prob <= 0:
            raise ValueError(
                "Wav2Vec2Config: mask_time_prob=0 and mask_feature_prob=0 leave out the vector of masked frames, "
                "which pre-training needs"
            )
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout_features = nn.Dropout(config.feat_quantizer_dropout)
        self.quantizer = native.Wav2Vec2GumbelVectorQuantizer(config)
        self.project_hid = nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.project_q = nn.Linear(config.codevector_dim, config.proj_codevector_dim)
        self.project_hid._ssl_init = self.project_q._ssl_init = "torch_default"
        # a buffer, so that a resumed run goes on with it
        self.register_buffer("gumbel_temperature", torch.tensor(float(config.gumbel_temperature)))
        self.post_init()

    def set_gumbel_temperature(self, temperature: float) -> None:
        self.gumbel_temperature.fill_(temperature)

    def gumbel_temperature_at(self, step: int) -> float:
        config = self.config
        return exponential_anneal(
            step, config.gumbel_temperature, config.gumbel_temperature_end, config.gumbel_temperature_decay
        )

    def after_optimizer_step(self, step: int) -> None:
        self.set_gumbel_temperature(self.gumbel_temperature_at(step))

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        sampled_negative_indices: Tensor | None = None,
        gumbel_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Wav2Vec2ForPreTrainingOutput:
        """
        Args:
            input_values: waveform (batch, samples).
            attention_mask: (batch, samples), 1 = real. Padded frames are neither attended to nor predicted.
            mask_time_indices: (batch, frames), 1 = masked; drawn if None. This name and the next are transformers'.
            sampled_negative_indices: (batch, frames, negatives), the distractors of each masked frame as indices into
                batch * frames, all of the same clip; drawn among its masked frames if None.
            gumbel_noise: (batch, frames, groups, codes); drawn if None, in training. Without noise the most likely
                code is taken.
        """
        config = self.config
        batch, frames = len(input_values), self.wav2vec2.num_frames(input_values.shape[1])
        real = lengths = None
        if attention_mask is not None:
            real = self._get_feature_vector_attention_mask(frames, attention_mask)
            lengths = real.sum(dim=1)

        # 1. mask: spans of frames
        if mask_time_indices is None:
            mask = span_mask(
                batch,
                frames,
                config.pretraining_mask_prob,
                config.pretraining_mask_length,
                lengths=lengths,
                min_spans=config.pretraining_min_masks,
                equal_counts=lengths is None,
                device=input_values.device,
            )
        else:
            _check_shape("mask_time_indices", mask_time_indices, (batch, frames))
            mask = mask_time_indices.bool() if real is None else mask_time_indices.bool() & real
        masked = mask.sum().clamp(min=1)

        # 2. encode what is left
        outputs = self.wav2vec2(input_values, attention_mask, mask, output_conv_features=True, **kwargs)
        predictions = self.project_hid(outputs.last_hidden_state)

        # 3. targets: the features before the mask, quantised
        groups = config.num_codevector_groups
        code_logits = self.quantizer.weight_proj(self.dropout_features(outputs.extract_features))
        code_logits = code_logits.unflatten(2, (groups, -1))
        if gumbel_noise is None and self.training:
            gumbel_noise = gumbel_noise_like(code_logits)
        one_hot, codes = gumbel_one_hot(code_logits, self.gumbel_temperature.float(), gumbel_noise)
        codebook = self.quantizer.codevectors[0].unflatten(0, (groups, -1))
        targets = self.project_q(product_codevectors(one_hot, codebook))

        # 4. contrastive loss: equation 3
        if sampled_negative_indices is None:
            negatives = sample_negatives(mask, config.num_negatives)
        else:
            negatives = _within_clip(sampled_negative_indices, mask)
        logits = contrastive_logits(predictions, targets, codes, negatives, config.contrastive_logits_temperature)
        frame_losses = (logits.logsumexp(dim=2) - logits[..., 0]) * mask
        contrastive_loss = frame_losses.sum() / masked
        right = ((logits.argmax(dim=2) == 0) & mask).sum() / masked

        # 5. diversity loss: equation 4, as the share of codes that are not in use (the authors' code)
        probabilities = code_logits.float().softmax(dim=-1)
        prob_perplexity = perplexity(probabilities, mask)
        with torch.no_grad():
            code_perplexity = perplexity(F.one_hot(code_logits.argmax(dim=-1), code_logits.shape[-1]).float(), mask)
        total = groups * config.num_codevectors_per_group
        diversity_loss = (total - prob_perplexity) / total * config.diversity_loss_weight

        # 6. feature penalty (the authors' code): keeps the convolutions' output small
        square = outputs.conv_features[0].float().square().mean(dim=1)
        square = square.mean() if real is None else (square * real).sum() / real.sum()
        feature_penalty_loss = square * config.feature_penalty_weight

        return Wav2Vec2ForPreTrainingOutput(
            loss=contrastive_loss + diversity_loss + feature_penalty_loss if return_loss else None,
            contrastive_loss=contrastive_loss,
            diversity_loss=diversity_loss,
            feature_penalty_loss=feature_penalty_loss,
            clip_losses=frame_losses.detach().sum(dim=1) / mask.sum(dim=1).clamp(min=1),
            code_perplexity=code_perplexity,
            prob_perplexity=prob_perplexity.detach(),
            accuracy=right,
            masked_share=mask.sum() / (batch * frames if real is None else real.sum()),
            temperature=self.gumbel_temperature.clone(),
            projected_states=predictions,
            projected_quantized_states=targets,
            codes=codes,
            mask_time_indices=mask.long(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _check_shape(name: str, value: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(value.shape) != expected:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}, expected {expected}")


def _within_clip(indices: Tensor, mask: Tensor) -> Tensor:
    """Indices into batch * frames -> into the frames of the clip; only those of masked frames count.

    Raises `ValueError` if they have another shape or reach into another clip.
    """
    batch, frames = mask.shape
    if indices.ndim != 3 or indices.shape[:2] != mask.shape:
        raise ValueError(
            f"sampled_negative_indices: got shape {tuple(indices.shape)}, expected ({batch}, {frames}, negatives)"
        )
    first = torch.arange(batch, device=indices.device)[:, None, None] * frames
    own = torch.where(mask[..., None], indices.long() - first, 0)
    if ((own < 0) | (own >= frames)).any():
        raise ValueError("sampled_negative_indices: got distractors of another clip, expected the same clip's")
    return own

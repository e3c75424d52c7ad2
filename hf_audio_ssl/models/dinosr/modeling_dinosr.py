# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""DinoSR: Self-Distillation and Online Clustering for Self-supervised Speech Representation Learning (2305.10005).

A student sees a waveform's frames with spans of them masked. An exponential moving average of its transformer sees all
of them; the outputs of its last layers are clustered online, each layer with a codebook of its own, and the student
predicts, from its last layer, the clusters at masked frames.

The encoder is data2vec's for audio; its parts are transformers' own, under the same names, so that its weights open in
`Data2VecAudioModel` too.
"""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.data2vec.modeling_data2vec_audio import (
    Data2VecAudioAttention,
    Data2VecAudioEncoder,
    Data2VecAudioEncoderLayer,
    Data2VecAudioFeatureEncoder,
    Data2VecAudioFeatureProjection,
    Data2VecAudioFeedForward,
)
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from hf_audio_ssl.modeling_base import AudioSSLPreTrainedModel
from hf_audio_ssl.modeling_heads import AudioClassificationMixin, AudioFrameClassificationMixin, CTCMixin
from hf_audio_ssl.modeling_outputs import MaskedPredictionOutput
from hf_audio_ssl.modeling_waveform import ConvolutionsMixin, WaveformTokensMixin
from hf_audio_ssl.models.dinosr.configuration_dinosr import DinoSrConfig
from hf_audio_ssl.models.dinosr.feature_extraction_dinosr import DinoSrFeatureExtractor
from hf_audio_ssl.modules.ema import ema_update, make_teacher
from hf_audio_ssl.modules.normalisation import normalise_over_time
from hf_audio_ssl.modules.online_codebook import OnlineCodebook
from hf_audio_ssl.modules.pooling import masked_mean
from hf_audio_ssl.modules.span_masking import span_mask
from hf_audio_ssl.modules.transformer import drop_layer
from hf_audio_ssl.schedules import linear_anneal


@dataclass
class DinoSrForPreTrainingOutput(MaskedPredictionOutput):
    """
    loss, codebook_loss (): cross entropy at masked frames, mean over codebooks.
    codebook_perplexity (): codewords in use, exp of the entropy of the teacher's codes at masked frames, mean over
        codebooks; 1 = collapse, `codebook_size` at most.
    target_entropy (): that entropy, in nats.
    prediction_perplexity (): the same of the student's mean distribution.
    targets (batch, num_codebooks, frames): the teacher's codes.
    predictions (batch, num_codebooks, frames, codebook_size): the student's logits.
    """

    codebook_loss: Tensor | None = None
    codebook_perplexity: Tensor | None = None
    target_entropy: Tensor | None = None
    prediction_perplexity: Tensor | None = None


class DinoSrFeatureEncoder(ConvolutionsMixin, Data2VecAudioFeatureEncoder):
    """Convolutions, each with layer norm and activation: waveforms (batch, samples) -> (batch, conv_dim, frames)."""

    def __init__(self, config: DinoSrConfig):
        super().__init__(config)
        for layer in self.conv_layers:
            layer.conv._ssl_init = "kaiming_normal"


class DinoSrEncoder(Data2VecAudioEncoder):
    """What the teacher shares with the student: positional convolutions, layer norm, transformer layers."""

    def __init__(self, config: DinoSrConfig):
        super().__init__(config)
        for layer in self.pos_conv_embed.layers:
            layer.conv._ssl_init = "torch_default"

    def embed(self, projected: Tensor, frame_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Frames (batch, frames, dim) with positions, and the attention mask of `frame_mask` (batch, frames)."""
        if frame_mask is not None:
            projected = projected.masked_fill(~frame_mask[..., None], 0)
        positions = projected.transpose(1, 2)
        for layer in self.pos_conv_embed.layers:
            positions = layer(positions)
            if frame_mask is not None and self.config.mask_padding:
                positions = positions.masked_fill(~frame_mask[:, None], 0)
        hidden_states = self.dropout(self.layer_norm(projected + positions.transpose(1, 2)))
        return hidden_states, create_bidirectional_mask(self.config, hidden_states, frame_mask)

    def forward(self, projected: Tensor, frame_mask: Tensor | None = None, **kwargs) -> Tensor:
        hidden_states, attention_mask = self.embed(projected, frame_mask)
        for layer in self.layers:
            output = layer(hidden_states, attention_mask=attention_mask, **kwargs)
            dropping = self.training and self.config.layerdrop > 0
            hidden_states = drop_layer(hidden_states, output, self.config.layerdrop) if dropping else output
        return hidden_states


class DinoSrPreTrainedModel(AudioSSLPreTrainedModel):
    """Names, initialisation and what can be recorded, for all DinoSR models."""

    config: DinoSrConfig
    base_model_prefix = "dinosr"
    feature_extractor_class = DinoSrFeatureExtractor
    _no_split_modules = ["Data2VecAudioEncoderLayer"]
    _input_embed_layer = "feature_extractor"
    _can_record_outputs = {
        "hidden_states": Data2VecAudioEncoderLayer,
        "attentions": OutputRecorder(Data2VecAudioAttention, index=1),
        # output of each feed-forward before its residual: what the teacher's targets are made of
        "ffn_states": OutputRecorder(Data2VecAudioFeedForward, index=0),
    }
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^codebook\.", r"^heads\.", r"masked_spec_embed$"]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, OnlineCodebook):
            # codewords start spread like the targets: mean 0 and variance 1 over them in each dimension
            init.copy_(module.sums, normalise_over_time(torch.randn_like(module.sums)))
            init.ones_(module.counts)
            init.zeros_(module.pending_sums)
            init.zeros_(module.pending_counts)
        elif isinstance(module, DinoSrModel) and module.masked_spec_embed is not None:
            init.uniform_(module.masked_spec_embed)


class DinoSrModel(WaveformTokensMixin, DinoSrPreTrainedModel):
    """The encoder: convolutions on the waveform, projection, post-norm transformer.

    It holds the embedding of masked frames (`masked_spec_embed`) if it is masked: in pre-training, or by SpecAugment.
    """

    def __init__(self, config: DinoSrConfig, masked: bool = False):
        super().__init__(config)
        self.feature_extractor = DinoSrFeatureEncoder(config)
        self.feature_projection = Data2VecAudioFeatureProjection(config)
        self.feature_projection.projection._ssl_init = "torch_default"
        self.encoder = DinoSrEncoder(config)
        masked = masked or config.mask_time_prob > 0
        self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size)) if masked else None
        self.post_init()

    def freeze_feature_encoder(self) -> None:
        """No gradients for the convolutions, as in the paper's fine-tuning."""
        self.feature_extractor.requires_grad_(False)

    def project(self, input_values: Tensor) -> Tensor:
        """Waveforms (batch, samples) -> (batch, frames, hidden_size), what masks and the teacher are applied to."""
        return self.feature_projection(self.feature_extractor(input_values).transpose(1, 2))[0]

    def spec_augment(self, projected: Tensor, frame_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Zeroes spans of channels, and draws spans of frames to mask: (projected, mask_time_indices)."""
        config, (batch, frames, channels) = self.config, projected.shape
        if config.mask_feature_prob > 0:
            mask = span_mask(
                batch, channels, config.mask_feature_prob, config.mask_feature_length,
                min_spans=1, equal_counts=False, device=projected.device,
            )  # fmt: skip
            projected = projected.masked_fill(mask[:, None], 0)
        if config.mask_time_prob == 0:
            return projected, None
        return projected, span_mask(
            batch, frames, config.mask_time_prob, config.mask_time_length, min_spans=1, equal_counts=False,
            lengths=None if frame_mask is None else frame_mask.sum(dim=1), device=projected.device,
        )  # fmt: skip

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        projected: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """
        Args:
            input_values: normalised waveforms (batch, samples).
            attention_mask: (batch, samples), 1 = real.
            mask_time_indices: frames (batch, frames) that the mask embedding replaces, 1 = masked. In training with
                SpecAugment they are drawn if None.
            projected: (batch, frames, hidden_size), the result of `project`, instead of `input_values`.
        """
        if projected is None:
            projected = self.project(input_values)
        frame_mask = self.frame_mask(attention_mask)
        if mask_time_indices is None and self.training:
            projected, mask_time_indices = self.spec_augment(projected, frame_mask)
        if mask_time_indices is not None:
            if self.masked_spec_embed is None:
                raise ValueError("mask_time_indices: given, but the model has no mask embedding (mask_time_prob=0)")
            embedding = self.masked_spec_embed.to(projected.dtype)
            projected = torch.where(mask_time_indices.bool()[..., None], embedding, projected)
        return BaseModelOutput(last_hidden_state=self.encoder(projected, frame_mask, **kwargs))


class DinoSrForPreTraining(DinoSrPreTrainedModel):
    """Masked prediction of the codes that online clustering gives an EMA teacher's layers (section 3)."""

    collapse_meters = {
        "codebook_perplexity": (2.0, None),
        "target_entropy": (0.7, None),
        "prediction_perplexity": (1.5, None),
        "masked_share": (0.2, 0.9),
    }
    # each process collects for itself until the codebooks are updated
    _ddp_params_and_buffers_to_ignore = ["codebook.pending_sums", "codebook.pending_counts"]

    def __init__(self, config: DinoSrConfig):
        super().__init__(config)
        self.dinosr = DinoSrModel(config, masked=True)
        self.heads = nn.ModuleList(
            nn.Linear(config.hidden_size, config.codebook_size) for _ in range(config.num_codebooks)
        )
        for head in self.heads:
            head._ssl_init = "torch_default"
        self.codebook = OnlineCodebook(
            config.num_codebooks, config.codebook_size, config.hidden_size, config.codebook_decay
        )
        self.teacher = make_teacher(self.dinosr.encoder)
        self.post_init()

    def teacher_pairs(self):
        return [(self.teacher, self.dinosr.encoder)]

    def ema_decay_at(self, step: int) -> float:
        config = self.config
        if config.freeze_teacher_step is not None and step >= config.freeze_teacher_step:
            return 1.0
        return linear_anneal(step, config.ema_decay, config.ema_end_decay, config.ema_anneal_steps)

    def after_optimizer_step(self, step: int) -> None:
        self.codebook.update()
        decay = self.ema_decay_at(step)
        if decay < 1:
            ema_update(self.teacher, self.dinosr.encoder, decay)
            # the original averages the transformer only, and copies the positions
            self.teacher.pos_conv_embed.load_state_dict(self.dinosr.encoder.pos_conv_embed.state_dict())

    @torch.no_grad()
    def make_targets(self, projected: Tensor, frame_mask: Tensor | None) -> Tensor:
        """The teacher's last feed-forward outputs, before residual and norm, each normalised over the clip:
        (num_codebooks, batch, frames, hidden_size).
        """
        hidden_states, attention_mask = self.teacher.embed(projected, frame_mask)
        states = []
        for layer in self.teacher.layers:
            attended, _ = layer.attention(hidden_states, attention_mask=attention_mask)
            hidden_states = layer.layer_norm(hidden_states + attended)
            states.append(layer.feed_forward(hidden_states))
            hidden_states = layer.final_layer_norm(hidden_states + states[-1])
        states = torch.stack(states[-self.config.num_codebooks :]).float()
        return normalise_over_time(states, frame_mask if self.config.mask_padding else None)

    @torch.no_grad()
    def tokenize(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Discrete units: the teacher's codes (batch, num_codebooks, frames), -1 at padded frames. Codebook i belongs
        to layer `num_hidden_layers - num_codebooks + i`, counted from 0.

        Args:
            input_values, attention_mask: what the encoder takes.
        """
        frame_mask = self.dinosr.frame_mask(attention_mask)
        codes = self.codebook.assign(self.make_targets(self.dinosr.project(input_values), frame_mask)).transpose(0, 1)
        return codes if frame_mask is None else codes.masked_fill(~frame_mask[:, None], -1)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> DinoSrForPreTrainingOutput:
        """
        Args:
            input_values: normalised waveforms (batch, samples).
            attention_mask: (batch, samples), 1 = real. Padded frames are neither attended to nor predicted.
            bool_masked_pos: (batch, frames), 1 = masked; drawn if None, with the same number in every row of a batch
                without padding.
        """
        config = self.config
        projected = self.dinosr.project(input_values)
        batch, frames, _ = projected.shape
        frame_mask = self.dinosr.frame_mask(attention_mask)

        # 1. mask
        if bool_masked_pos is None:
            bool_masked_pos = span_mask(
                batch,
                frames,
                config.mask_prob,
                config.mask_length,
                lengths=None if frame_mask is None else frame_mask.sum(dim=1),
                min_spans=1,
                equal_counts=frame_mask is None,
                device=projected.device,
            )
        elif bool_masked_pos.shape != (batch, frames):
            raise ValueError(
                f"bool_masked_pos: got shape {tuple(bool_masked_pos.shape)}, expected ({batch}, {frames})"
            )
        bool_masked_pos = bool_masked_pos.bool()
        valid = torch.ones_like(bool_masked_pos) if frame_mask is None else frame_mask
        scored = bool_masked_pos & valid

        # 2. student: codes of every codebook from its last layer
        outputs = self.dinosr(
            attention_mask=attention_mask, mask_time_indices=bool_masked_pos, projected=projected, **kwargs
        )
        predictions = torch.stack([head(outputs.last_hidden_state) for head in self.heads])

        # 3. teacher: it sees every frame, of the student's own features; its layers are clustered
        targets = self.make_targets(projected.detach(), frame_mask)
        codes = self.codebook.assign(targets)

        # 4. loss, with the codebooks as they are before this step
        log_probabilities = predictions.float().log_softmax(dim=-1)
        error = F.nll_loss(log_probabilities.flatten(0, 2), codes.flatten(), reduction="none").view_as(codes)
        codebook_loss = masked_mean(error.mean(dim=0), scored)

        # 5. what the codebooks learn from once the step is complete
        if self.training:
            self.codebook.collect(targets, codes, scored)

        share = scored.float() / scored.sum().clamp(min=1)
        used = torch.zeros_like(self.codebook.counts).scatter_add(
            1, codes.flatten(1), share.flatten().expand(len(codes), -1)
        )
        guessed = (log_probabilities.detach().exp() * share[..., None]).sum(dim=(1, 2))
        used_entropy, guessed_entropy = (torch.special.entr(p).sum(dim=-1) for p in (used, guessed))
        return DinoSrForPreTrainingOutput(
            loss=codebook_loss if return_loss else None,
            codebook_loss=codebook_loss,
            codebook_perplexity=used_entropy.exp().mean(),
            target_entropy=used_entropy.mean(),
            prediction_perplexity=guessed_entropy.exp().mean(),
            masked_share=scored.sum() / valid.sum(),
            targets=codes.transpose(0, 1),
            predictions=predictions.transpose(0, 1),
            bool_masked_pos=bool_masked_pos.long(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class DinoSrForAudioClassification(AudioClassificationMixin, DinoSrPreTrainedModel):
    """One answer for a clip, from the mean of its frames."""

    encoder_class = DinoSrModel


class DinoSrForAudioFrameClassification(AudioFrameClassificationMixin, DinoSrPreTrainedModel):
    """One answer for each frame (20 ms by default)."""

    encoder_class = DinoSrModel


class DinoSrForCTC(CTCMixin, DinoSrPreTrainedModel):
    """Transcription: one token, or blank, for each frame. The paper fine-tunes with SpecAugment (`mask_time_prob` and
    `mask_feature_prob`) and fixed convolutions (`model.base_model.freeze_feature_encoder()`).
    """

    encoder_class = DinoSrModel

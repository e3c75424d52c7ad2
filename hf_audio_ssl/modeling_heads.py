# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The supervised heads that all encoders share. A method names its encoder, and overrides `pool` where it differs:

class EatForAudioClassification(AudioClassificationMixin, EatPreTrainedModel):
    encoder_class = EatModel
"""

from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput, TokenClassifierOutput
from transformers.utils import TransformersKwargs, can_return_tuple

from hf_audio_ssl.losses.classification import classification_loss
from hf_audio_ssl.modules.pooling import masked_mean


class _Head:
    """Encoder, layer norm, linear classifier."""

    encoder_class: type

    def __init__(self, config):
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.classifier._ssl_init = "trunc_normal"
        self.post_init()


class AudioClassificationMixin(_Head):
    """One answer for a clip: encoder, pooling, layer norm, linear head."""

    def pool(self, outputs, attention_mask: Tensor | None) -> Tensor:
        """Encoder outputs -> (batch, hidden_size): class token, or the mean over the real tokens, as
        `config.classifier_pooling` says.
        """
        clip, tokens, valid = self.base_model.split_tokens(outputs.last_hidden_state, attention_mask)
        if self.config.classifier_pooling == "cls":
            return clip
        return masked_mean(tokens.mean(dim=2), valid, dim=1)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_values, attention_mask: what the encoder takes.
            labels: class ids (batch,), or probabilities / multi-hot (batch, num_labels). `config.problem_type`
                decides; if it is None, floats mean multi-label.
        """
        outputs = self.base_model(input_values, attention_mask, **kwargs)
        logits = self.classifier(self.norm(self.pool(outputs, attention_mask)))
        loss = None
        if labels is not None:
            problem = self.config.problem_type
            loss = classification_loss(
                logits,
                labels,
                multi_label=problem == "multi_label_classification"
                or (problem is None and labels.is_floating_point()),
                reduction=self.config.classifier_loss_reduction,
                label_smoothing=self.config.label_smoothing if self.training else 0.0,
            )
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class AudioFrameClassificationMixin(_Head):
    """One answer for each frame of the encoder: mean of the tokens that share its time, layer norm, linear head."""

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """
        Args:
            input_values, attention_mask: what the encoder takes.
            labels: class ids (batch, frames) with -100 where there is none, or multi-hot (batch, frames, num_labels);
                frames are the encoder's, `input_steps_per_frame` steps of the input each.
        """
        outputs = self.base_model(input_values, attention_mask, **kwargs)
        _, tokens, valid = self.base_model.split_tokens(outputs.last_hidden_state, attention_mask)
        logits = self.classifier(self.norm(tokens.mean(dim=2)))
        loss = None
        if labels is not None and labels.is_floating_point():
            error = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none").mean(dim=-1)
            loss = masked_mean(error, valid)
        elif labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.masked_fill(~valid, -100).flatten())
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class CTCMixin:
    """A token or blank for each frame: encoder, dropout, linear head (wav2vec 2.0, section 3.3)."""

    encoder_class: type

    def __init__(self, config):
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.dropout = nn.Dropout(config.final_dropout)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.lm_head._ssl_init = "trunc_normal"
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutput:
        """
        Args:
            input_values, attention_mask: what the encoder takes.
            labels: token ids (batch, longest transcript), negative where a transcript has ended. `config.pad_token_id`
                is the blank.
        """
        outputs = self.base_model(input_values, attention_mask, **kwargs)
        logits = self.lm_head(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            if labels.max() >= self.config.vocab_size:
                raise ValueError(f"labels: got token {labels.max()}, expected less than {self.config.vocab_size}")
            _, _, valid = self.base_model.split_tokens(outputs.last_hidden_state, attention_mask)
            present = labels >= 0
            loss = F.ctc_loss(
                logits.float().log_softmax(dim=-1).transpose(0, 1),
                labels.masked_fill(~present, 0),
                valid.sum(dim=1),
                present.sum(dim=1),
                blank=self.config.pad_token_id,
                reduction=self.config.ctc_loss_reduction,
                zero_infinity=self.config.ctc_zero_infinity,
            )
        return CausalLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

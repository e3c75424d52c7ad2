# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""BEATs: Audio Pre-Training with Acoustic Tokenizers (arXiv 2212.09058).

A tokenizer gives every patch of a spectrogram one of 1024 labels; the encoder sees a quarter of the patches, and a
label predictor says what the labels of the others are. The first tokenizer is a random projection. Each later one is
distilled from the encoder that the last one taught, and teaches the next.
"""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from hf_audio_ssl.modeling_base import AudioSSLPreTrainedModel
from hf_audio_ssl.modeling_heads import AudioClassificationMixin, AudioFrameClassificationMixin
from hf_audio_ssl.modeling_outputs import MaskedPredictionOutput
from hf_audio_ssl.modeling_spectrogram import PatchTokensMixin
from hf_audio_ssl.models.beats.configuration_beats import BeatsConfig
from hf_audio_ssl.models.beats.feature_extraction_beats import BeatsFeatureExtractor
from hf_audio_ssl.modules.masking import gather_tokens, num_visible, random_mask, scatter_tokens, take_or_draw
from hf_audio_ssl.modules.patch_embed import PatchEmbedding, check_spectrogram, patchify
from hf_audio_ssl.modules.pooling import masked_mean, token_std
from hf_audio_ssl.modules.relative_position import PositionalConvolution, RelativePositionBias
from hf_audio_ssl.modules.transformer import FeedForward, SelfAttention, TransformerLayer, drop_layer, scale_gradient
from hf_audio_ssl.modules.vector_quantizer import EMAQuantizer, RandomProjectionQuantizer, code_counts, usage


@dataclass
class BeatsForPreTrainingOutput(MaskedPredictionOutput):
    """
    loss (): the `prediction_loss`, cross-entropy of the labels of masked patches.
    accuracy (): share of the masked patches whose label is predicted.
    codebook_perplexity, codebook_used_share (): of the batch's labels; few labels = an easy task that teaches little.
    targets (batch, patches): the labels. predictions (batch, patches, codebook_size): logits.
    """

    prediction_loss: Tensor | None = None
    accuracy: Tensor | None = None
    codebook_perplexity: Tensor | None = None
    codebook_used_share: Tensor | None = None


@dataclass
class BeatsTokenizerOutput(ModelOutput):
    """
    codes (batch, patches): the labels. The rest only if the tokenizer is learned:
    quantized (batch, patches, codebook_dim): their vectors, with a straight-through gradient.
    projections (batch, patches, codebook_dim): what is quantised, before it is put on the unit sphere.
    commitment_loss (): mean square between projections and codes.
    last_hidden_state, hidden_states, attentions: of the encoder.
    """

    codes: Tensor | None = None
    quantized: Tensor | None = None
    projections: Tensor | None = None
    commitment_loss: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class BeatsTokenizerForPreTrainingOutput(ModelOutput):
    """
    loss (): `distillation_loss` plus weighted `commitment_loss`.
    distillation_loss (): one minus the cosine between what the estimator makes of the codes and the teacher's output.
    target_std (): standard deviation of the teacher's output over patches, averaged over dimensions.
    codebook_perplexity, codebook_used_share (): of the batch's codes.
    targets, predictions (batch, patches, teacher's width); codes (batch, patches).
    """

    loss: Tensor | None = None
    distillation_loss: Tensor | None = None
    commitment_loss: Tensor | None = None
    target_std: Tensor | None = None
    codebook_perplexity: Tensor | None = None
    codebook_used_share: Tensor | None = None
    targets: Tensor | None = None
    predictions: Tensor | None = None
    codes: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def proportional_padding(padding: Tensor, length: int) -> Tensor:
    """Padding (batch, steps), True = padding, at another resolution: (batch, length).

    Steps are shared out evenly, the rest dropped; an entry is padding if all its steps are (`forward_padding_mask` of
    the original).
    """
    steps = padding.shape[1] // length
    return padding[:, : steps * length].unflatten(1, (length, steps)).all(dim=2)


class BeatsAttention(SelfAttention):
    """Self-attention with a relative position bias that each query weighs (WavLM, arXiv 2110.13900, section 3.1)."""

    def __init__(self, config: BeatsConfig):
        super().__init__(config)
        self.gate = None
        if config.gated_position_bias and config.num_position_buckets:
            self.gate = nn.Linear(self.head_dim, 8)
            self.gate_scale = nn.Parameter(torch.ones(1, config.num_attention_heads, 1, 1))

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        relative_bias: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            attention_mask: (batch, 1, 1, tokens), False = not attended to.
            relative_bias: (1 or batch, heads, tokens, tokens), shared by all layers.
        """
        query, key, value = self.project(hidden_states)
        bias = relative_bias
        if bias is not None and self.gate is not None:
            update, reset = self.gate(query).unflatten(-1, (2, 4)).sum(dim=-1).sigmoid().chunk(2, dim=-1)
            bias = bias * (update * (reset * self.gate_scale - 1) + 2)
        if attention_mask is not None:
            bias = query.new_zeros(()) if bias is None else bias
            bias = torch.where(attention_mask, bias, torch.finfo(query.dtype).min)
        return self.attend(query, key, value, None if bias is None else bias.to(query.dtype), **kwargs)


class BeatsFeedForward(FeedForward):
    """Linear, activation, dropout, linear; with `gated_mlp` half of the first linear's output gates the other half."""

    def __init__(self, config: BeatsConfig):
        super().__init__(config)
        self.gated = config.gated_mlp
        if self.gated:
            self.fc1 = nn.Linear(config.hidden_size, 2 * config.intermediate_size)
        self.dropout = nn.Dropout(config.activation_dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        x = self.fc1(hidden_states)
        if self.gated:
            x, gate = x.chunk(2, dim=-1)
            return self.fc2(self.dropout(x * self.activation(gate)))
        return self.fc2(self.dropout(self.activation(x)))


class BeatsLayer(TransformerLayer):
    """The shared block with a position bias, and DeepNorm (arXiv 2203.00555) for a stack of `num_layers`."""

    attention_class = BeatsAttention
    mlp_class = BeatsFeedForward

    def __init__(self, config: BeatsConfig, layer_index: int, num_layers: int):
        super().__init__(config, layer_index, config.norm_first)
        if config.deep_norm:
            self.residual_scale = (2 * num_layers) ** 0.25
            gain = (8 * num_layers) ** -0.25
            for module in (self.attention.v_proj, self.attention.o_proj, self.mlp.fc1, self.mlp.fc2):
                module._deep_norm_gain = gain
            for module in (self.attention.q_proj, self.attention.k_proj):
                module._deep_norm_gain = 1.0

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, relative_bias: Tensor | None, **kwargs):
        # by position: reentrant checkpointing passes no gradient to what comes by name
        return super().forward(hidden_states, attention_mask, relative_bias=relative_bias, **kwargs)


class BeatsLayers(nn.Module):
    """Positions and transformer layers: encoder, label predictor and the tokenizer's estimator are made of it."""

    def __init__(
        self, config: BeatsConfig, num_layers: int, layerdrop: float = 0.0, gradient_decay_ratio: float = 1.0
    ):
        super().__init__()
        self.norm_first = config.norm_first
        self.layerdrop = layerdrop
        self.gradient_decay_ratio = gradient_decay_ratio
        self.position_convolution = PositionalConvolution(
            config.hidden_size, config.position_kernel_size, config.position_groups
        )
        self.relative_position = None
        if config.num_position_buckets:
            self.relative_position = RelativePositionBias(
                config.num_position_buckets, config.max_position_distance, config.num_attention_heads
            )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(BeatsLayer(config, i, num_layers) for i in range(num_layers))

    def forward(self, tokens: Tensor, valid: Tensor | None = None, visible: Tensor | None = None, **kwargs) -> Tensor:
        """tokens (batch, patches, hidden_size) -> (batch, patches or visible, hidden_size).

        Args:
            valid: (batch, patches), False = padding.
            visible: (batch, count), the only patches that the layers see, at their positions among all.
        """
        length, shown = tokens.shape[1], valid
        if visible is not None:
            shown = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device).scatter(1, visible, True)
            if valid is not None:
                shown = shown & valid
                valid = valid.gather(1, visible)
        if shown is not None:
            # hidden patches are treated as the original treats padding: nothing of them reaches the convolution
            tokens = tokens.masked_fill(~shown[..., None], 0.0)
        x = tokens + self.position_convolution(tokens)
        if visible is not None:
            x = gather_tokens(x, visible)
        x = self.dropout(x if self.norm_first else self.norm(x))

        bias = None if self.relative_position is None else self.relative_position(length, visible)
        mask = None if valid is None else valid[:, None, None, :]
        for layer in self.layers:
            x = scale_gradient(x, self.gradient_decay_ratio)
            y = layer(x, mask, bias, **kwargs)
            x = drop_layer(x, y, self.layerdrop) if self.training and self.layerdrop else y
        return self.norm(x) if self.norm_first else x


class BeatsPreTrainedModel(AudioSSLPreTrainedModel):
    """Names, initialisation and what can be recorded, for all BEATs models."""

    config: BeatsConfig
    base_model_prefix = "beats"
    feature_extractor_class = BeatsFeatureExtractor
    # the position bias is added to the scores
    _supports_flash_attn = False
    _supports_flex_attn = False
    _no_split_modules = ["BeatsLayer"]
    _input_embed_layer = "patch_embedding"
    _can_record_outputs = {"hidden_states": BeatsLayer, "attentions": BeatsAttention}
    _keys_to_ignore_on_load_unexpected = [
        r"^tokenizer\.", r"^predictor\.", r"^teacher\.", r"^estimator\.", r"^quantizer\.", r"^code_",
    ]  # fmt: skip

    @torch.no_grad()
    def _init_weights(self, module):
        gain = getattr(module, "_deep_norm_gain", None)
        if gain is not None:
            init.xavier_normal_(module.weight, gain=gain)
            init.zeros_(module.bias)
            return
        super()._init_weights(module)
        if isinstance(module, BeatsAttention) and module.gate is not None:
            init.ones_(module.gate_scale)
        elif isinstance(module, PositionalConvolution):
            direction, scale = module.initial_values()
            init.copy_(module.direction, direction)
            init.copy_(module.gain, scale)
            init.zeros_(module.bias)
        elif isinstance(module, BeatsLabelPredictor):
            init.normal_(module.mask_token, std=self.config.initializer_range)
        elif isinstance(module, EMAQuantizer):
            for buffer in module.buffers():
                init.zeros_(buffer)
        elif isinstance(module, RandomProjectionQuantizer):
            projection, codebook = module.initial_values()
            init.copy_(module.projection, projection)
            init.copy_(module.codebook, codebook)


class BeatsModel(PatchTokensMixin, BeatsPreTrainedModel):
    """The encoder: normed patches, positions, transformer layers. There is no class token."""

    num_prefix_tokens = 0

    def __init__(self, config: BeatsConfig):
        super().__init__(config)
        self.patch_embedding = PatchEmbedding(config.patch_size, config.patch_hidden_size, bias=config.patch_bias)
        self.patch_norm = nn.LayerNorm(config.patch_hidden_size, eps=config.layer_norm_eps)
        self.projection = nn.Identity()
        if config.patch_hidden_size != config.hidden_size:
            self.projection = nn.Linear(config.patch_hidden_size, config.hidden_size)
            self.projection._ssl_init = "torch_default"
        self.dropout = nn.Dropout(config.input_dropout)
        self.encoder = BeatsLayers(config, config.num_hidden_layers, config.layerdrop, config.gradient_decay_ratio)
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
            attention_mask: (batch, frames), 1 = real. Padded patches are not attended to; see `token_mask`.
            visible: indices of the patches to encode (batch, count); None = all.
        """
        check_spectrogram(self.config, input_values, attention_mask)
        tokens = self.dropout(self.projection(self.patch_norm(self.patch_embedding(input_values))))
        valid = None if attention_mask is None else self.token_mask(attention_mask)
        return BaseModelOutputWithPooling(last_hidden_state=self.encoder(tokens, valid, visible, **kwargs))

    def token_mask(self, attention_mask):
        """By `config.exact_padding`."""
        if self.config.exact_padding:
            return super().token_mask(attention_mask)
        patches = attention_mask.shape[1] // self.config.patch_size * self.config.num_mel_patches
        return ~proportional_padding(attention_mask == 0, patches)


class BeatsTokenizer(BeatsPreTrainedModel):
    """Spectrogram -> one code per patch (section 3.2): a random projection of each patch, or what an encoder makes of
    the whole clip, projected and quantised. `config.tokenizer_type` says which.
    """

    def __init__(self, config: BeatsConfig):
        super().__init__(config)
        if config.tokenizer_type == "random_projection":
            self.quantizer = RandomProjectionQuantizer(
                config.patch_size**2, config.codebook_size, config.codebook_dim, config.codebook_seed
            )
        else:
            self.beats = BeatsModel(config)
            self.code_projection = nn.Sequential(
                nn.Linear(config.hidden_size, config.hidden_size),
                nn.Tanh(),
                nn.Linear(config.hidden_size, config.codebook_dim),
            )
            self.quantizer = EMAQuantizer(config.codebook_size, config.codebook_dim, config.codebook_decay)
        self.post_init()

    # transformers looks at the parameters: a random projection has none
    @property
    def dtype(self) -> torch.dtype:
        return self.quantizer.codebook.dtype

    @property
    def device(self) -> torch.device:
        return self.quantizer.codebook.device

    @can_return_tuple
    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> BeatsTokenizerOutput:
        """
        Args:
            input_values: log mel (batch, frames, num_mel_bins).
            attention_mask: (batch, frames), 1 = real. Codes of padded patches are arbitrary.
        """
        if self.config.tokenizer_type == "random_projection":
            check_spectrogram(self.config, input_values, attention_mask)
            patches = patchify(input_values, self.config.patch_size).float()
            if self.config.standardise_patches:
                patches = F.layer_norm(patches, patches.shape[-1:])
            return BeatsTokenizerOutput(codes=self.quantizer(patches))
        outputs = self.beats(input_values, attention_mask, **kwargs)
        valid = None if attention_mask is None else self.beats.token_mask(attention_mask)
        projections = self.code_projection(outputs.last_hidden_state)
        quantized, commitment_loss, codes = self.quantizer(projections, valid)
        return BeatsTokenizerOutput(
            codes=codes,
            quantized=quantized,
            projections=projections,
            commitment_loss=commitment_loss,
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BeatsTokenizerForPreTraining(BeatsTokenizer):
    """Training of a learned tokenizer (section 3.2.2): from the codes alone, an estimator predicts what a frozen BEATs
    makes of each patch.
    """

    collapse_meters = {"codebook_perplexity": (8.0, None), "target_std": (0.01, None)}

    def __init__(self, config: BeatsConfig):
        if config.tokenizer_type != "learned":
            raise ValueError(f"tokenizer_type={config.tokenizer_type!r}: only a 'learned' tokenizer is trained")
        super().__init__(config)
        self.code_embedding = nn.Linear(config.codebook_dim, config.hidden_size)
        self.estimator = BeatsLayers(config, config.estimator_num_layers)
        self.code_output = nn.Linear(config.hidden_size, config.teacher().hidden_size)
        self.teacher = BeatsModel(config.teacher()).requires_grad_(False).eval()
        self.post_init()

    @classmethod
    def from_teacher(cls, teacher: "str | BeatsPreTrainedModel", **config) -> "BeatsTokenizerForPreTraining":
        """A fresh tokenizer of the teacher's sizes, unless `config` says otherwise.

        Args:
            teacher: folder or Hub id of a pre-trained or fine-tuned BEATs, or the model itself. It is copied.
        """
        teacher = (BeatsModel.from_pretrained(teacher) if isinstance(teacher, str) else teacher).base_model
        fields = teacher.config.encoder_fields()
        model = cls(BeatsConfig(**{**fields, **config, "tokenizer_type": "learned", "teacher_config": fields}))
        model.teacher.load_state_dict(teacher.state_dict())
        return model

    def frozen_modules(self):
        return [self.teacher]

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BeatsTokenizerForPreTrainingOutput:
        """
        Args:
            input_values: log mel (batch, frames, num_mel_bins).
            attention_mask: (batch, frames), 1 = real. Padded patches have no part in the loss or the codebook.
        """
        # 1. encode and quantise the whole clip
        tokenized = super().forward(input_values, attention_mask, **kwargs)
        valid = None if attention_mask is None else self.beats.token_mask(attention_mask)

        # 2. estimate the teacher's output from the codes
        embedded = self.code_embedding(tokenized.quantized.to(self.code_embedding.weight.dtype))
        predictions = self.code_output(self.estimator(embedded, valid))

        # 3. target: the teacher's last layer
        with torch.no_grad():
            targets = self.teacher(input_values, attention_mask).last_hidden_state

        # 4. loss: equation 4, with one minus the cosine for minus the cosine
        cosine = F.cosine_similarity(predictions.float(), targets.float(), dim=-1)
        distillation_loss = masked_mean(1 - cosine, valid)
        commitment_loss = tokenized.commitment_loss * self.config.commitment_weight

        perplexity, used_share = usage(code_counts(tokenized.codes, self.config.codebook_size, valid))
        return BeatsTokenizerForPreTrainingOutput(
            loss=distillation_loss + commitment_loss if return_loss else None,
            distillation_loss=distillation_loss,
            commitment_loss=commitment_loss,
            target_std=token_std(targets, valid),
            codebook_perplexity=perplexity,
            codebook_used_share=used_share,
            targets=targets,
            predictions=predictions,
            codes=tokenized.codes,
            hidden_states=tokenized.hidden_states,
            attentions=tokenized.attentions,
        )


class BeatsLabelPredictor(nn.Module):
    """A few layers over the encoded patches and, in the places of the others, a mask token; then logits of labels."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.layers = BeatsLayers(config, config.predictor_num_layers)
        self.classifier = nn.Linear(config.hidden_size, config.codebook_size)

    def forward(self, encoded: Tensor, visible: Tensor, length: int, valid: Tensor | None) -> Tensor:
        """encoded (batch, count, hidden_size) of the patches `visible` -> logits (batch, length, codebook_size)."""
        tokens = scatter_tokens(self.mask_token.expand(len(encoded), length, -1), visible, encoded)
        return self.classifier(self.layers(tokens, valid))


class BeatsForPreTraining(BeatsPreTrainedModel):
    """BEATs' objective (section 3.3): predict the labels of masked patches.

    The tokenizer is frozen and part of the model, so that a checkpoint holds all it takes to go on.
    """

    collapse_meters = {"codebook_perplexity": (8.0, None), "accuracy": (None, 0.95)}

    def __init__(self, config: BeatsConfig):
        super().__init__(config)
        self.beats = BeatsModel(config)
        self.predictor = BeatsLabelPredictor(config)
        self.tokenizer = BeatsTokenizer(config.tokenizer()).requires_grad_(False).eval()
        self.post_init()

    @classmethod
    def from_tokenizer(cls, tokenizer: "str | BeatsTokenizer", **config) -> "BeatsForPreTraining":
        """A fresh model that learns the labels of `tokenizer`, with its sizes unless `config` says otherwise.

        Args:
            tokenizer: folder or Hub id of a `BeatsTokenizer` (trained or converted), or the model. It is copied.
        """
        if isinstance(tokenizer, str):
            tokenizer = BeatsTokenizer.from_pretrained(tokenizer)
        fields = tokenizer.config.tokenizer_fields()
        config |= {"tokenizer_config": fields, "codebook_size": tokenizer.config.codebook_size}
        model = cls(BeatsConfig(**{**fields, **config}))
        own = model.tokenizer.state_dict()
        model.tokenizer.load_state_dict({name: x for name, x in tokenizer.state_dict().items() if name in own})
        return model

    def frozen_modules(self):
        return [self.tokenizer]

    def draw_mask(self, batch: int, patches: int, device) -> tuple[Tensor, int]:
        """Mask (batch, patches), True = masked, and the number of visible patches of each clip."""
        ratio = self.config.mask_ratio
        return random_mask(batch, patches, ratio, device=device), num_visible(patches, ratio)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        target_codes: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BeatsForPreTrainingOutput:
        """
        Args:
            input_values: log mel (batch, frames, num_mel_bins).
            attention_mask: (batch, frames), 1 = real. Padded patches are neither attended to nor predicted.
            bool_masked_pos: (batch, patches), 1 = masked; drawn if None.
            target_codes: (batch, patches), labels made beforehand; the tokenizer makes them if None.
        """
        config, batch = self.config, len(input_values)
        patches = input_values.shape[1] // config.patch_size * config.num_mel_patches

        # 1. mask
        bool_masked_pos, visible = take_or_draw(
            bool_masked_pos, batch, patches, lambda: self.draw_mask(batch, patches, input_values.device)
        )

        # 2. encode the visible patches
        outputs = self.beats(input_values, attention_mask, visible, **kwargs)

        # 3. predict: visible patches back in their places, a mask token elsewhere
        valid = None if attention_mask is None else self.beats.token_mask(attention_mask)
        predictions = self.predictor(outputs.last_hidden_state, visible, patches, valid)

        # 4. target: the tokenizer's labels of the whole clip
        if target_codes is None:
            with torch.no_grad():
                target_codes = self.tokenizer(input_values, attention_mask).codes

        # 5. loss: equation 5
        scored = bool_masked_pos if valid is None else bool_masked_pos & valid
        error = F.cross_entropy(predictions.float().transpose(1, 2), target_codes, reduction="none")
        loss = masked_mean(error, scored)

        counts = code_counts(target_codes, config.codebook_size, valid)
        perplexity, used_share = usage(counts)
        return BeatsForPreTrainingOutput(
            loss=loss if return_loss else None,
            prediction_loss=loss,
            accuracy=masked_mean((predictions.argmax(dim=-1) == target_codes).float(), scored),
            codebook_perplexity=perplexity,
            codebook_used_share=used_share,
            masked_share=scored.float().mean(),
            targets=target_codes,
            predictions=predictions,
            bool_masked_pos=bool_masked_pos.long(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BeatsForAudioClassification(AudioClassificationMixin, BeatsPreTrainedModel):
    """Clip labels as the authors fine-tune: dropout, a linear layer on every token, and the mean of the logits over
    the real ones; which is the same linear layer on the mean. No norm, unlike the shared head.
    """

    encoder_class = BeatsModel

    def __init__(self, config: BeatsConfig):
        super().__init__(config)
        self.norm = nn.Identity()

    def pool(self, outputs, attention_mask):
        tokens = F.dropout(outputs.last_hidden_state, self.config.classifier_dropout, self.training)
        if attention_mask is None:
            return tokens.mean(dim=1)
        return masked_mean(tokens, self.beats.token_mask(attention_mask), dim=1)


class BeatsForAudioFrameClassification(AudioFrameClassificationMixin, BeatsPreTrainedModel):
    """Labels of time patches, 160 ms each by default. The authors have no such head."""

    encoder_class = BeatsModel

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from typing import Literal

from huggingface_hub.dataclasses import strict

from hf_audio_ssl.configuration_base import SpectrogramConfig

# what makes two encoders interchangeable
_ENCODER_FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
    "num_mel_bins", "patch_size", "patch_hidden_size", "patch_bias", "position_kernel_size", "position_groups",
    "num_position_buckets", "max_position_distance", "gated_position_bias", "gated_mlp", "norm_first", "deep_norm",
    "exact_padding",
)  # fmt: skip
_TOKENIZER_FIELDS = ("tokenizer_type", "codebook_size", "codebook_dim", "codebook_seed", "standardise_patches")


@strict
class BeatsConfig(SpectrogramConfig):
    """Configuration of BEATs (arXiv 2212.09058). The defaults are the released base model and its first iteration.

    Args:
        patch_hidden_size, patch_bias: width of the patch convolution, and whether it has a bias.
        position_kernel_size, position_groups: the positional convolution.
        num_position_buckets, max_position_distance: the relative position bias, over distances of flattened tokens; 0
            buckets: none.
        gated_position_bias: each query weighs the bias, per head.
        gated_mlp: feed-forwards with a gate (no release has it; the authors' code offers it).
        norm_first, deep_norm: norms before the branches; or DeepNorm's residual scale and initialisation.
        input_dropout, activation_dropout, layerdrop: of the projected patches, inside feed-forwards, of whole layers.
        gradient_decay_ratio: factor on the gradient in front of every layer.
        exact_padding: True: patches that reach into padding are left out. False: the original's rule, which shares
            out the flattened tokens evenly over the frames, so that at the border high bands are left out before low.
        mask_ratio: share of the patches hidden from the encoder in pre-training.
        predictor_num_layers: the label predictor (not published: three, as in ESPnet's re-implementation).
        tokenizer_config: fields of the learned tokenizer that makes the labels; None: what the fields below say.
        tokenizer_type, codebook_size, codebook_dim, codebook_seed: random projection (a function of the seed), or
            learned.
        standardise_patches: each patch to mean 0 and variance 1 first, so that random labels leave out its level.
        codebook_decay, commitment_weight, estimator_num_layers, teacher_config: training of a learned tokenizer:
            moving average of the codes, weight of the commitment loss, depth of the estimator, encoder to distil.
        classifier_dropout: fine-tuning.
    """

    model_type = "ssl_beats"
    keys_to_ignore_at_inference = [*SpectrogramConfig.keys_to_ignore_at_inference, "codes"]

    patch_hidden_size: int = 512
    patch_bias: bool = False
    position_kernel_size: int = 128
    position_groups: int = 16
    num_position_buckets: int = 320
    max_position_distance: int = 800
    gated_position_bias: bool = True
    gated_mlp: bool = False
    norm_first: bool = False
    deep_norm: bool = True
    input_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    layerdrop: float | int = 0.05
    gradient_decay_ratio: float | int = 0.6
    layer_norm_eps: float = 1e-5
    exact_padding: bool = True
    mask_ratio: float = 0.75
    predictor_num_layers: int = 3
    tokenizer_config: dict | None = None
    tokenizer_type: Literal["random_projection", "learned"] = "random_projection"
    codebook_size: int = 1024
    codebook_dim: int = 256
    codebook_seed: int = 0
    standardise_patches: bool = False
    codebook_decay: float | int = 0.99
    commitment_weight: float | int = 1.0
    estimator_num_layers: int = 3
    teacher_config: dict | None = None
    classifier_pooling: Literal["mean"] = "mean"
    classifier_dropout: float | int = 0.0

    def encoder_fields(self) -> dict:
        """What another config needs to build this encoder, e.g. as `teacher_config`."""
        return {name: getattr(self, name) for name in _ENCODER_FIELDS}

    def tokenizer_fields(self) -> dict:
        """What another config needs to build this tokenizer, as `tokenizer_config`."""
        return self.encoder_fields() | {name: getattr(self, name) for name in _TOKENIZER_FIELDS}

    def tokenizer(self) -> "BeatsConfig":
        """Configuration of the tokenizer that makes the labels."""
        return self if self.tokenizer_config is None else BeatsConfig(**self.tokenizer_config)

    def teacher(self) -> "BeatsConfig":
        """Configuration of the encoder that a tokenizer in training distils."""
        return self if self.teacher_config is None else BeatsConfig(**self.teacher_config)

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive(
            "patch_hidden_size", "position_kernel_size", "position_groups", "predictor_num_layers", "codebook_dim",
            "estimator_num_layers",
        )  # fmt: skip
        self.require(
            self.hidden_size % self.position_groups == 0,
            f"hidden_size={self.hidden_size} is not a multiple of position_groups={self.position_groups}",
        )
        self.require(
            self.num_position_buckets == 0
            or (self.num_position_buckets >= 4 and self.max_position_distance > self.num_position_buckets // 4),
            f"num_position_buckets={self.num_position_buckets}, max_position_distance={self.max_position_distance}: "
            "expected 0 buckets, or at least 4 and a distance beyond a quarter of them",
        )
        self.require(
            not (self.norm_first and self.deep_norm),
            "norm_first=True, deep_norm=True: DeepNorm norms after the branches",
        )
        self.require(
            self.exact_padding or self.num_mel_patches <= self.patch_size,
            f"exact_padding=False: {self.num_mel_patches} bands are more than the patch_size={self.patch_size} frames "
            "that they share",
        )
        for name in ("input_dropout", "activation_dropout", "layerdrop", "classifier_dropout"):
            self.require(0 <= getattr(self, name) < 1, f"{name}={getattr(self, name)}: expected a value in [0, 1)")
        for name in ("gradient_decay_ratio", "codebook_decay"):
            self.require(0 < getattr(self, name) <= 1, f"{name}={getattr(self, name)}: expected a value in (0, 1]")
        self.require(self.codebook_size >= 2, f"codebook_size={self.codebook_size}: expected at least 2")
        for name, shared in (
            ("tokenizer_config", ("codebook_size", "num_mel_bins", "patch_size")),
            ("teacher_config", ("num_mel_bins", "patch_size")),
        ):
            other = getattr(self, name)
            if other is not None:
                other = BeatsConfig(**other)
                for field in shared:
                    mine, theirs = getattr(self, field), getattr(other, field)
                    self.require(mine == theirs, f"{field}={mine}, but {name} has {field}={theirs}: expected the same")

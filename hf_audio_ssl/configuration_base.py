# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What the configurations of all methods share. No `from __future__ import annotations` here: it would disable
`strict`.
"""

from collections.abc import Sequence
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that one frame of a stack of strided convolutions is made of."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides)):
        samples = (samples - 1) * stride + kernel
    return samples


class CheckedConfig:
    """What every transformer must satisfy, and words to ask for more.

    Asks `validate_architecture` when a config is made, where a `ValueError` stays one: `strict` asks again later,
    and would wrap it in an exception that is none.
    """

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.validate_architecture()

    def validate_architecture(self):
        self.require_positive("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        self.require(
            self.hidden_size % self.num_attention_heads == 0,
            f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}",
        )
        self.require_activation("hidden_act")
        super().validate_architecture()

    def require(self, condition: bool, message: str) -> None:
        """Part of `validate_architecture`: raises `ValueError(message)` unless `condition` holds."""
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")

    def require_positive(self, *names: str) -> None:
        """Each of these fields is 1 or more, or a list of such numbers."""
        for name in names:
            value = getattr(self, name)
            smallest = value if isinstance(value, int) else min(value, default=1)
            self.require(smallest >= 1, f"{name}={value}: expected at least 1")

    def require_activation(self, name: str) -> None:
        value = getattr(self, name)
        self.require(value in ACT2FN, f"{name}={value!r}: expected one of {', '.join(sorted(ACT2FN))}")


@strict
class AudioSSLConfig(CheckedConfig, PreTrainedConfig):
    """Fields that the shared transformer modules and heads read. Methods override the defaults with their paper's base
    model.

    Args:
        drop_path_rate: of the last layer; grows linearly with depth.
        classifier_pooling: class token, or mean of the tokens.
        classifier_loss_reduction, label_smoothing: see `classification_loss`.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    classifier_pooling: Literal["cls", "mean"] = "cls"
    classifier_loss_reduction: Literal["mean", "labels", "batch"] = "mean"
    label_smoothing: float | int = 0.0

    # masks, targets and predictions are large: Trainer must not gather them in evaluation
    keys_to_ignore_at_inference = ["predictions", "targets", "bool_masked_pos", "hidden_states", "attentions"]

    def part(self, prefix: str) -> "ConfigPart":
        """What a part of the model with sizes of its own, such as a decoder, hands to the shared modules."""
        return ConfigPart(self, prefix)

    def validate_architecture(self):
        super().validate_architecture()
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"):
            self.require(0 <= getattr(self, name) < 1, f"{name}={getattr(self, name)}: expected a value in [0, 1)")


@strict
class SpectrogramConfig(AudioSSLConfig):
    """Methods whose tokens are square patches of a spectrogram.

    Args:
        num_mel_bins, patch_size: height of the spectrogram and side of its patches.
        mask_ratio: share of the patches that pre-training hides.
    """

    num_mel_bins: int = 128
    patch_size: int = 16
    mask_ratio: float = 0.75

    @property
    def num_mel_patches(self) -> int:
        return self.num_mel_bins // self.patch_size

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive("num_mel_bins", "patch_size")
        self.require(
            self.num_mel_bins % self.patch_size == 0,
            f"num_mel_bins={self.num_mel_bins} is not a multiple of patch_size={self.patch_size}",
        )
        self.require(0 < self.mask_ratio < 1, f"mask_ratio={self.mask_ratio}: expected a value between 0 and 1")


class ConfigPart:
    """`ConfigPart(config, "decoder_").hidden_size` is `config.decoder_hidden_size`; what has no such name is the
    whole's, and follows it (the attention implementation may change later).
    """

    def __init__(self, whole: AudioSSLConfig, prefix: str):
        self.whole = whole
        self.prefix = prefix

    def __getattr__(self, name):
        if name.startswith("__") or "whole" not in self.__dict__:  # asked while being copied or unpickled
            raise AttributeError(name)
        own = self.prefix + name
        return getattr(self.whole, own if hasattr(self.whole, own) else name)

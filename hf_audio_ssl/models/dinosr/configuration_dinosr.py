# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import math
from typing import Literal

from huggingface_hub.dataclasses import strict

from hf_audio_ssl.configuration_base import AudioSSLConfig, receptive_field


@strict
class DinoSrConfig(AudioSSLConfig):
    """Configuration of DinoSR (arXiv 2305.10005). The defaults are the paper's model and its pre-training on
    LibriSpeech. The encoder's fields have the names and meanings of `Data2VecAudioConfig`.

    Args:
        conv_dim, conv_kernel, conv_stride, conv_bias, feat_extract_activation: convolutions on the waveform.
        num_conv_pos_embeddings, conv_pos_kernel_size, num_conv_pos_embedding_groups: stacked positional convolutions.
        feat_proj_dropout, activation_dropout: after the projection, and inside the feed-forward layers.
        layerdrop: probability that a training step skips a layer.
        mask_padding: a padded clip gives what the clip alone gives. False: as the original, whose positional
            convolutions carry something from the padding into a clip's last frames, and whose targets are normalised
            over padding too.
        mask_prob, mask_length: share of the frames at which a span would begin were they spread evenly, times the
            length; frames of a span. 0.8 and 10 mask about 55 %.
        num_codebooks: teacher layers, counted from the last, that are clustered; one codebook and one head each.
        codebook_size, codebook_decay: codewords, and decay of their running sums and counts.
        ema_decay, ema_end_decay, ema_anneal_steps: the teacher's decay grows linearly over the first steps.
        freeze_teacher_step: the teacher stays as it is from this step on; None: never.
        mask_time_prob, mask_time_length, mask_feature_prob, mask_feature_length: the same masks on frames and on
            channels when a supervised head is trained (SpecAugment); 0 = none.
        vocab_size, pad_token_id, final_dropout, ctc_loss_reduction, ctc_zero_infinity: the head for CTC; the padding
            token is the blank.
    """

    model_type = "ssl_dinosr"
    attribute_map = {"hidden_dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}

    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    activation_dropout: float | int = 0.0
    feat_proj_dropout: float | int = 0.0
    layerdrop: float | int = 0.05
    layer_norm_eps: float = 1e-5
    feat_extract_activation: str = "gelu"
    conv_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 5
    conv_pos_kernel_size: int = 19
    num_conv_pos_embedding_groups: int = 16
    mask_padding: bool = True
    mask_prob: float | int = 0.8
    mask_length: int = 10
    num_codebooks: int = 8
    codebook_size: int = 256
    codebook_decay: float | int = 0.9
    ema_decay: float | int = 0.999
    ema_end_decay: float | int = 0.9999
    ema_anneal_steps: int = 30_000
    freeze_teacher_step: int | None = 200_001
    mask_time_prob: float | int = 0.0
    mask_time_length: int = 10
    mask_feature_prob: float | int = 0.0
    mask_feature_length: int = 64
    classifier_pooling: Literal["mean"] = "mean"
    vocab_size: int = 32
    pad_token_id: int | None = 0
    final_dropout: float | int = 0.0
    ctc_loss_reduction: Literal["sum", "mean"] = "sum"
    ctc_zero_infinity: bool = False

    @property
    def num_feat_extract_layers(self) -> int:
        return len(self.conv_dim)

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.conv_stride)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame is made of."""
        return receptive_field(self.conv_kernel, self.conv_stride)

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive(
            "conv_dim", "conv_kernel", "conv_stride", "num_conv_pos_embeddings", "conv_pos_kernel_size",
            "num_conv_pos_embedding_groups", "mask_length", "mask_time_length", "mask_feature_length", "vocab_size",
        )  # fmt: skip
        self.require_activation("feat_extract_activation")
        lengths = [len(sizes) for sizes in (self.conv_dim, self.conv_kernel, self.conv_stride)]
        self.require(
            len(set(lengths)) == 1 and lengths[0] > 0,
            f"conv_dim, conv_kernel and conv_stride have {lengths} entries: expected one for each layer",
        )
        self.require(
            self.hidden_size % self.num_conv_pos_embedding_groups == 0,
            f"hidden_size={self.hidden_size} is not a multiple of num_conv_pos_embedding_groups="
            f"{self.num_conv_pos_embedding_groups}",
        )
        self.require(
            1 <= self.num_codebooks <= self.num_hidden_layers,
            f"num_codebooks={self.num_codebooks}: expected 1 to num_hidden_layers={self.num_hidden_layers}",
        )
        self.require(self.codebook_size >= 2, f"codebook_size={self.codebook_size}: expected at least 2")
        self.require(0 < self.mask_prob <= 1, f"mask_prob={self.mask_prob}: expected a value above 0, at most 1")
        for name in ("mask_time_prob", "mask_feature_prob"):
            self.require(0 <= getattr(self, name) <= 1, f"{name}={getattr(self, name)}: expected a value in [0, 1]")
        for name in ("layerdrop", "activation_dropout", "feat_proj_dropout", "final_dropout", "codebook_decay"):
            self.require(0 <= getattr(self, name) < 1, f"{name}={getattr(self, name)}: expected a value in [0, 1)")
        self.require(
            self.freeze_teacher_step is None or self.freeze_teacher_step >= 1,
            f"freeze_teacher_step={self.freeze_teacher_step}: expected at least 1, or None",
        )
        self.require(self.drop_path_rate == 0, f"drop_path_rate={self.drop_path_rate}: DinoSR has layerdrop instead")
        self.require(
            0 <= self.ema_decay <= self.ema_end_decay <= 1,
            f"ema_decay={self.ema_decay}, ema_end_decay={self.ema_end_decay}: expected 0 <= first <= second <= 1",
        )

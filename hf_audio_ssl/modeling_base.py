# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What every model of the zoo has: initialisation tags, synchronised teachers, and `encode`."""

import math
import os
from collections import defaultdict
from typing import Literal, NamedTuple

import torch
from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import FEATURE_EXTRACTOR_NAME, logging

from hf_audio_ssl.feature_extraction_base import as_waves

logger = logging.get_logger(__name__)


class FrameEmbeddings(NamedTuple):
    """`embeddings` (frames, dim) and `times` (frames,), the centre of each frame in seconds."""

    embeddings: Tensor
    times: Tensor


class AudioSSLPreTrainedModel(PreTrainedModel):
    """Base class of all models.

    A base model (the encoder) implements `split_tokens` and `input_steps_per_frame`, and where frames overlap
    `receptive_field`; a pre-training head with an EMA teacher names it in `teacher_pairs` and updates it in
    `after_optimizer_step`.
    """

    main_input_name = "input_values"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # losses do not divide by num_items_in_batch; without this Trainer multiplies them by the accumulation steps
    accepts_loss_kwargs = False

    # how `encode` turns audio into input_values if the model's folder holds no preprocessor_config.json
    feature_extractor_class: type
    # fields of the pre-training output that tell learning from collapse, and the range that is normal
    collapse_meters: dict[str, tuple[float | None, float | None]] = {}

    @torch.no_grad()
    def _init_weights(self, module):
        """transformers' default, unless a leaf carries a tag `_ssl_init` (containers are skipped for code outside
        transformers).
        """
        tag = getattr(module, "_ssl_init", None)
        if tag is None:
            super()._init_weights(module)
        elif tag in ("torch_default", "kaiming_normal"):
            if tag == "torch_default":
                init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            else:
                init.kaiming_normal_(module.weight)
            bound = 1 / math.sqrt(module.weight[0].numel())
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif tag in ("xavier_uniform", "xavier_uniform_qkv"):
            # as if the kernel were one matrix (out, in * height * width); as if q, k and v were one of three times the
            # height
            outputs = module.weight.shape[0] * (3 if tag.endswith("qkv") else 1)
            bound = math.sqrt(6 / (outputs + module.weight[0].numel()))
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif tag == "trunc_normal":
            init.trunc_normal_(module.weight, std=self.config.initializer_range)
            init.zeros_(module.bias)
        else:
            raise ValueError(f"unknown initialisation tag {tag!r} on {type(module).__name__}")

    @property
    def skips_layers(self) -> bool:
        """Whether a training step may leave out whole layers (LayerDrop): their parameters then get no gradient, which
        DistributedDataParallel has to be told.
        """
        return False

    # -- pre-training -------------------------------------------------------------------------------------------------

    def teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(teacher, student) modules. A teacher that a checkpoint does not hold starts as a copy of its student."""
        return []

    def frozen_modules(self) -> list[nn.Module]:
        """Submodules that take no gradient and stay in evaluation mode: EMA teachers, and what a method adds."""
        return [teacher for teacher, _ in self.teacher_pairs()]

    def train(self, mode: bool = True):
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self

    def after_optimizer_step(self, step: int) -> None:
        """Called by the training loop once `step` optimizer updates are complete: teachers, temperatures, queues."""

    def _initialize_missing_keys(self, *args, **kwargs) -> None:
        orphans = [
            (teacher, student)
            for teacher, student in self.teacher_pairs()
            if not any(getattr(p, "_is_hf_initialized", False) for p in teacher.parameters())
        ]
        super()._initialize_missing_keys(*args, **kwargs)
        for teacher, student in orphans:
            teacher.load_state_dict(student.state_dict())
        # loading puts new parameters in the place of the frozen ones
        for module in self.frozen_modules():
            module.requires_grad_(False)

    # -- embeddings ---------------------------------------------------------------------------------------------------

    def split_tokens(
        self, hidden_states: Tensor, attention_mask: Tensor | None
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Hidden states of one layer -> clip token (batch, dim) or None, tokens (batch, time, bands, dim), valid times
        (batch, time). `bands` is the number of tokens that share a time: patches of one column, 1 for waveform models.
        """
        raise NotImplementedError

    @property
    def input_steps_per_frame(self) -> int:
        """Steps of `input_values` along time from one embedding frame to the next."""
        raise NotImplementedError

    @property
    def receptive_field(self) -> int:
        """Steps of `input_values` that one frame is made of before attention, and the shortest input. More than
        `input_steps_per_frame` where frames overlap: stacks of strided convolutions.
        """
        return self.input_steps_per_frame

    def num_frames(self, steps: int) -> int:
        """Embedding frames of an input of `steps` steps."""
        return max((steps - self.receptive_field) // self.input_steps_per_frame + 1, 0)

    @property
    def padding_changes_outputs(self) -> bool:
        """Whether a clip's outputs depend on its padding in spite of the mask, because something is normalised over
        time. `encode` then puts only clips of equal length into a batch.
        """
        return False

    def own_feature_extractor(self):
        """The extractor saved beside the weights, or the method's default one if there is none.

        Raises `OSError` if that cannot be told: the network fails, the folder is gone, the file is damaged.
        """
        path = self.config._name_or_path
        if path:
            try:
                # the revision that the weights came from, where transformers notes it (5.17 does, 5.23 does not)
                revision = getattr(self.config, "_commit_hash", None)
                return self.feature_extractor_class.from_pretrained(path, revision=revision)
            except OSError as error:
                if not _holds_no_extractor(path, revision):
                    raise OSError(
                        f"{path}: cannot tell whether it holds a {FEATURE_EXTRACTOR_NAME}; expected a folder or a "
                        f"repository that can be read, or feature_extractor=... ({error})"
                    ) from error
                logger.warning(
                    f"{path} holds no {FEATURE_EXTRACTOR_NAME}: using {self.feature_extractor_class.__name__}()"
                )
        return self.feature_extractor_class()

    @torch.no_grad()
    def encode(
        self,
        audio,
        sampling_rate: int,
        *,
        pool: Literal["mean", "mean_std", "cls", "frames"] = "mean",
        layers: int | list[int] = -1,
        window: float | None = None,
        hop: float | None = None,
        batch_size: int = 16,
        feature_extractor=None,
    ) -> Tensor | list[FrameEmbeddings]:
        """Embeddings of clips of any length, independent of how they are batched or padded.

        Args:
            audio: samples in [-1, 1], one channel: array or tensor (samples,), or a list of them.
            pool: mean of all tokens of the clip, mean and standard deviation, class token, or all frames (means of the
                tokens that share a time).
            layers: index into the hidden states (0 = the first block's input, -1 = the last block's output), or
                several, which are concatenated.
            window, hop: seconds; longer clips are cut into windows whose overlaps are averaged. Default: the
                extractor's `max_length`, and half of it.
            batch_size: windows per forward pass; bounds the memory.

        Returns:
            Tensor (clips, dim) on the CPU; for `pool="frames"` a list with `FrameEmbeddings` for each clip.

        Raises:
            ValueError: bad audio (see `as_waves`; one array of several clips is refused, since it may be one clip of
                several channels), unknown `pool`, layers that there are not, or a hop that is longer than the window.
            OSError: see `own_feature_extractor`.
        """
        model = self.base_model
        extractor = feature_extractor or self.own_feature_extractor()
        if pool not in ("mean", "mean_std", "cls", "frames"):
            raise ValueError(f"pool: got {pool!r}, expected 'mean', 'mean_std', 'cls' or 'frames'")
        count = model.config.num_hidden_layers + 1
        indices = [layers] if isinstance(layers, int) else list(layers)
        if not indices or not all(-count <= index < count for index in indices):
            raise ValueError(f"layers: got {layers}, expected one or several of {-count} to {count - 1}")
        if getattr(audio, "ndim", 1) > 1:
            raise ValueError(
                f"audio: got shape {tuple(audio.shape)}, expected one channel (samples,), or a list of clips. "
                "hf_audio_ssl.audio.io.load(path) mixes down."
            )
        waves = as_waves(audio, sampling_rate, extractor.sampling_rate)
        span, stride = _window_in_frames(model, extractor, window, hop)
        pieces = _cut(waves, model, extractor, span, stride)

        was_training = model.training
        model.eval()
        try:
            windows = model._encode_windows(pieces, extractor, sampling_rate, pool, indices, batch_size)
        finally:
            model.train(was_training)

        clips = [windows[clip] for clip in range(len(waves))]
        if pool == "cls":
            return torch.stack([torch.stack(tokens).mean(0) for tokens in clips])
        merged = [_overlap_average(pieces) for pieces in clips]
        if pool == "mean":
            return torch.stack([x.mean(0) for x in merged])
        if pool == "mean_std":
            merged = [x.flatten(0, 1) for x in merged]
            return torch.stack([torch.cat([x.mean(0), x.std(0, correction=0)]) for x in merged])
        shift, overlap = _frame_samples(model, extractor)
        return [
            FrameEmbeddings(x, ((torch.arange(len(x)) + 0.5) * shift + overlap / 2) / extractor.sampling_rate)
            for x in merged
        ]

    def _encode_windows(self, pieces, extractor, sampling_rate, pool, indices, batch_size) -> dict[int, list]:
        """Embeddings of every window by clip: class tokens, or (first frame, those of its real frames)."""
        windows = defaultdict(list)
        alone = self.padding_changes_outputs
        for batch in _batches(pieces, batch_size, equal_lengths=alone):
            inputs = extractor(
                [wave for _, _, wave in batch],
                sampling_rate=sampling_rate,
                padding="longest",
                truncation=False,
                pad_to_multiple_of=None if alone else self.input_steps_per_frame,
                return_attention_mask=True,
                device=self.device,
            )
            states = self(**inputs, output_hidden_states=True).hidden_states
            split = [self.split_tokens(states[i], inputs["attention_mask"]) for i in indices]
            clip_tokens, tokens, valid = zip(*split)
            counts = valid[0].sum(dim=1).tolist()
            if pool == "cls":
                if clip_tokens[0] is None:
                    raise ValueError(f"pool: got 'cls', but {type(self).__name__} has no class token")
                embeddings = torch.cat(clip_tokens, dim=-1).float().cpu()
            else:
                tokens = torch.cat(tokens, dim=-1).float()
                # only the deviation needs the bands apart
                embeddings = (tokens if pool == "mean_std" else tokens.mean(dim=2)).cpu()
            for (clip, start, _), embedding, count in zip(batch, embeddings, counts):
                windows[clip].append(embedding if pool == "cls" else (start, embedding[:count]))
        return windows


def _holds_no_extractor(path: str, revision: str | None) -> bool:
    """Whether a folder, or what the Hub has answered about a repository, says so. False if nobody knows."""
    if os.path.isdir(path):
        return not os.path.exists(os.path.join(path, FEATURE_EXTRACTOR_NAME))
    try:
        return try_to_load_from_cache(path, FEATURE_EXTRACTOR_NAME, revision=revision) is _CACHED_NO_EXIST
    except ValueError:  # no name of a repository: a folder that is gone
        return False


def _frame_samples(model, extractor) -> tuple[int, int]:
    """Samples from one embedding frame to the next, and samples that two neighbours share."""
    steps, step = model.input_steps_per_frame, extractor.step_samples
    return steps * step, (model.receptive_field - steps) * step + extractor.window_samples - step


def _window_in_frames(model, extractor, window: float | None, hop: float | None) -> tuple[int, int]:
    """Window and hop in embedding frames."""
    seconds = _frame_samples(model, extractor)[0] / extractor.sampling_rate
    span = model.num_frames(extractor.max_length) if window is None else round(window / seconds)
    stride = max(span // 2, 1) if hop is None else round(hop / seconds)
    if not 1 <= stride <= span:
        raise ValueError(
            f"window={window}, hop={hop}: expected {seconds:g} s (one frame) <= hop <= window; this model's frames "
            f"make that {stride} and {span} frames"
        )
    return span, stride


def _cut(waves, model, extractor, span: int, stride: int) -> list[tuple[int, int, Tensor]]:
    """(clip, first embedding frame, samples) of every window; windows lie on the grid of embedding frames."""
    shift, overlap = _frame_samples(model, extractor)
    pieces = []
    for clip, wave in enumerate(waves):
        total = max(model.num_frames(extractor.num_frames(len(wave))), 1)
        for start in range(0, max(total - span, 0) + stride, stride) if total > span else (0,):
            if start >= total:
                break
            begin = start * shift
            end = len(wave) if total <= span else begin + span * shift + overlap
            pieces.append((clip, start, wave[begin:end]))
    return pieces


def _batches(pieces: list, batch_size: int, equal_lengths: bool):
    """Windows in batches; of one length each if `equal_lengths`."""
    groups = defaultdict(list)
    for piece in pieces:
        groups[len(piece[2]) if equal_lengths else 0].append(piece)
    for group in groups.values():
        for begin in range(0, len(group), batch_size):
            yield group[begin : begin + batch_size]


def _overlap_average(windows: list[tuple[int, Tensor]]) -> Tensor:
    """Windows (first frame, (frames, ...)) -> (all frames, ...)."""
    length = max(start + len(x) for start, x in windows)
    total = windows[0][1].new_zeros(length, *windows[0][1].shape[1:])
    weight = total.new_zeros(length, *[1] * (total.ndim - 1))
    for start, x in windows:
        total[start : start + len(x)] += x
        weight[start : start + len(x)] += 1
    return total / weight

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Feature extractors: checked, batched, on any device; saved as `preprocessor_config.json`."""

import math
import numbers
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, SequenceFeatureExtractor

from hf_audio_ssl.audio.fbank import kaldi_fbank, window_function

# far beyond 32-bit integers; louder samples overflow the power spectrum
_LOUDEST = 1e10


def as_waves(raw_speech, sampling_rate: int | None, expected_rate: int, device=None) -> list[Tensor]:
    """A clip or a list of clips as float32 tensors (samples,) on `device`.

    Raises:
        ValueError: wrong or missing sampling rate, integer or complex samples, more than one channel, an empty clip or
            batch, NaN or infinite samples.
    """
    if sampling_rate != expected_rate:
        raise ValueError(
            f"sampling_rate: got {sampling_rate}, expected {expected_rate} Hz. "
            "hf_audio_ssl.audio.io.load(path, sampling_rate=...) resamples."
        )
    if isinstance(raw_speech, (np.ndarray, Tensor)):
        clips = [raw_speech] if raw_speech.ndim < 2 else list(raw_speech)
    elif isinstance(raw_speech, Sequence) and not isinstance(raw_speech, (str, bytes)) and len(raw_speech):
        clips = [raw_speech] if isinstance(raw_speech[0], numbers.Real) else list(raw_speech)
    else:
        raise ValueError(f"raw_speech: got {type(raw_speech).__name__}, expected a 1-D array or a list of 1-D arrays")
    if not clips:
        raise ValueError("raw_speech: got an empty batch, expected at least one clip")
    waves = [_as_wave(clip, index, device) for index, clip in enumerate(clips)]
    # one check, and one synchronisation, for the whole batch
    peaks = torch.stack([torch.stack(wave.aminmax()) for wave in waves]).abs().amax(dim=1).tolist()
    for index, peak in enumerate(peaks):
        if not peak < _LOUDEST:  # NaN compares false
            what = f"samples up to {peak:.3g}" if math.isfinite(peak) else "NaN or infinite samples"
            raise ValueError(f"raw_speech[{index}]: got {what}, expected finite values in [-1, 1]")
    return waves


def _as_wave(clip, index: int, device) -> Tensor:
    try:
        wave = clip if isinstance(clip, Tensor) else torch.from_numpy(np.require(clip, requirements="CW"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"raw_speech[{index}]: got {type(clip).__name__}, expected a 1-D array of floats") from error
    if wave.ndim != 1:
        raise ValueError(
            f"raw_speech[{index}]: got shape {tuple(wave.shape)}, expected one channel (samples,). "
            "hf_audio_ssl.audio.io.load(path) mixes down."
        )
    if not wave.is_floating_point():
        raise ValueError(f"raw_speech[{index}]: got {wave.dtype} samples, expected floating point in [-1, 1]")
    if not len(wave):
        raise ValueError(f"raw_speech[{index}]: got an empty clip, expected at least one sample")
    return wave.to(device=device, dtype=torch.float32)


class AudioFeatureExtractor(SequenceFeatureExtractor):
    """What extractors share: checks, lengths, padding, masks. A subclass makes features (`extract`) and finishes them
    once they are padded (`finish`).
    """

    model_input_names = ["input_values"]
    # samples that a step of `input_values` covers, and from one step to the next
    window_samples: int
    step_samples: int
    # the unit of `max_length`, for messages
    unit: str
    # what `__call__` does unless told otherwise
    default_padding: str
    default_truncation: bool

    def require_positive(self, *names: str) -> None:
        """Raises `ValueError` unless each of these attributes is a finite number above 0."""
        for name in names:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{type(self).__name__}: {name}={getattr(self, name)}: expected more than 0")

    def num_frames(self, samples: int) -> int:
        """Steps of `input_values` of a clip of `samples` samples before padding."""
        return 0 if samples < self.window_samples else 1 + (samples - self.window_samples) // self.step_samples

    def min_samples(self, padding: bool | str) -> int:
        """Samples of the shortest clip that `__call__` takes with this `padding`."""
        raise NotImplementedError

    def extract(self, waves: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Waves (samples_i,) -> features (batch, steps, ...), padded somehow, and step counts (batch,)."""
        raise NotImplementedError

    def finish(self, features: Tensor, real: Tensor) -> Tensor:
        """Padded or cut features (batch, steps, ...) and real steps (batch, steps) -> `input_values`."""
        raise NotImplementedError

    def __call__(
        self,
        raw_speech: np.ndarray | Tensor | list,
        sampling_rate: int | None = None,
        padding: bool | str | None = None,
        max_length: int | None = None,
        truncation: bool | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = "pt",
        device: str | torch.device | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Features of one clip or a batch. Lengths count steps of `input_values`: frames, or samples (`unit`).

        Args:
            raw_speech: samples in [-1, 1], one channel: array or tensor (samples,), or a list of them.
            sampling_rate: of `raw_speech`, in hertz. Required: a wrong rate is the commonest silent error.
            padding: "max_length", "longest" / True (to the longest clip), False (clips of equal length); None:
                spectrograms to "max_length", waveforms to the "longest".
            max_length: `self.max_length` if None.
            truncation: cut clips that are longer than `max_length`, keeping their start; None: spectrograms only.
            device: where the features are computed and left.

        Returns:
            `input_values` (batch, frames, num_mel_bins) or (batch, samples), and `attention_mask` (batch, steps), 1 =
            real, if asked for.

        Raises:
            ValueError: see `as_waves`; a clip that is too short (`min_samples`); unknown `padding`; clips of different
                lengths without padding.
        """
        padding = self.default_padding if padding is None else padding
        truncation = self.default_truncation if truncation is None else truncation
        if padding not in (True, False, "max_length", "longest", "do_not_pad"):
            raise ValueError(
                f"padding: got {padding!r}, expected 'max_length', 'longest' (True) or 'do_not_pad' (False)"
            )
        for name, value in (("max_length", max_length), ("pad_to_multiple_of", pad_to_multiple_of)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}: got {value!r}, expected a positive number of {self.unit}")
        if return_tensors not in (None, "pt", "np"):
            raise ValueError(f"return_tensors: got {return_tensors!r}, expected 'pt', 'np' or None")
        waves = as_waves(raw_speech, sampling_rate, self.sampling_rate, device)
        self.check_length(min(len(wave) for wave in waves), padding)

        features, counts = self.extract(waves)
        limit = max_length or self.max_length
        length = limit if padding == "max_length" else features.shape[1]
        if truncation:
            length = min(length, limit)
        elif padding == "max_length":
            length = max(length, features.shape[1])
        if padding in (False, "do_not_pad") and len({min(c, length) for c in counts.tolist()}) > 1:
            raise ValueError(
                f"raw_speech: got clips of {counts.tolist()} {self.unit}, expected equal lengths with padding=False"
            )
        if pad_to_multiple_of:
            length += -length % pad_to_multiple_of
        if features.shape[1] > length:
            features = features[:, :length]
        elif features.shape[1] < length:
            trailing = (0, 0) * (features.ndim - 2)
            features = torch.nn.functional.pad(features, (*trailing, 0, length - features.shape[1]))
        real = torch.arange(length, device=features.device) < counts[:, None]

        batch = {"input_values": self.finish(features, real)}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            batch["attention_mask"] = real.to(torch.int32)
        if return_tensors != "pt":
            batch = {name: value.cpu().numpy() for name, value in batch.items()}
        return BatchFeature(batch)

    def check_length(self, samples: int, padding: bool | str) -> None:
        """Raises `ValueError` if the shortest clip, of `samples` samples, is too short."""
        if samples < (needed := self.min_samples(padding)):
            raise ValueError(f"raw_speech: got a clip of {samples} samples, expected at least {needed}")


class MelFeatureExtractor(AudioFeatureExtractor):
    """Waveform -> Kaldi log-mel spectrogram -> pad or cut -> (x - mean) / (2 std).

    Args:
        sampling_rate: hertz.
        max_length: frames that `padding="max_length"` pads and `truncation` cuts to.
        mean, std: of the log mel over the pre-training corpus; see `hf-audio-ssl stats`.
        frame_length, frame_shift: milliseconds.
        waveform_scale: factor on the samples before the filter bank (Kaldi's own recipes take 2^15).
        remove_clip_mean: subtract the clip's mean from its samples first.
        min_frames: clips with fewer frames are refused where nothing pads them; the model's patch length.
        pad_value: value of padded frames, in the log-mel domain *before* normalisation.
    """

    unit = "frames"
    default_padding, default_truncation = "max_length", True

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        max_length: int = 1024,
        mean: float = 0.0,
        std: float = 0.5,
        frame_length: float = 25.0,
        frame_shift: float = 10.0,
        window_type: str = "hanning",
        waveform_scale: float = 1.0,
        remove_clip_mean: bool = False,
        min_frames: int = 1,
        pad_value: float = 0.0,
        padding_value: float = 0.0,
        return_attention_mask: bool = False,
        **kwargs,
    ):
        # a saved file holds both names; the number of mel bins is the one to change
        kwargs.pop("feature_size", None)
        super().__init__(
            feature_size=num_mel_bins,
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )
        self.num_mel_bins = num_mel_bins
        self.max_length = max_length
        self.mean = mean
        self.std = std
        self.frame_length = frame_length
        self.frame_shift = frame_shift
        self.window_type = window_type
        self.waveform_scale = waveform_scale
        self.remove_clip_mean = remove_clip_mean
        self.min_frames = min_frames
        self.pad_value = pad_value
        self.require_positive(
            "sampling_rate", "num_mel_bins", "max_length", "std", "frame_length", "frame_shift", "waveform_scale",
            "min_frames",
        )  # fmt: skip
        if self.step_samples < 1 or self.window_samples < 2:
            raise ValueError(
                f"{type(self).__name__}: frame_length={frame_length}, frame_shift={frame_shift}: expected "
                f"milliseconds that are at least 2 samples and 1 sample at {sampling_rate} Hz"
            )
        window_function(window_type, self.window_samples)  # raises if there is none of that name

    @property
    def window_samples(self) -> int:
        return int(self.sampling_rate * self.frame_length * 0.001)

    @property
    def step_samples(self) -> int:
        return int(self.sampling_rate * self.frame_shift * 0.001)

    def min_samples(self, padding):
        frames = 1 if padding == "max_length" else self.min_frames
        return self.window_samples + (frames - 1) * self.step_samples

    def check_length(self, samples, padding):
        if samples < self.min_samples(padding):
            needed = 1 if padding == "max_length" else self.min_frames
            raise ValueError(
                f"raw_speech: got a clip of {samples} samples ({self.num_frames(samples)} frames), expected "
                f"at least {needed} frames of {self.frame_length:g} ms every {self.frame_shift:g} ms"
            )

    def log_mel(self, waves: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Waves (samples_i,) -> log mel (batch, frames, num_mel_bins), not normalised, and frame counts (batch,)."""
        if self.remove_clip_mean:
            waves = [wave - wave.mean() for wave in waves]
        if self.waveform_scale != 1:
            waves = [wave * self.waveform_scale for wave in waves]
        same_length = len({len(wave) for wave in waves}) == 1
        return kaldi_fbank(
            torch.stack(waves) if same_length else waves,
            sampling_rate=self.sampling_rate,
            num_mel_bins=self.num_mel_bins,
            frame_length=self.frame_length,
            frame_shift=self.frame_shift,
            window_type=self.window_type,
        )

    def extract(self, waves):
        return self.log_mel(waves)

    def finish(self, features, real):
        if self.pad_value:
            features = features.masked_fill(~real[..., None], self.pad_value)
        # padded frames are normalised too: the originals pad before they normalise
        return features.sub_(self.mean).div_(2 * self.std)


class WaveformFeatureExtractor(AudioFeatureExtractor):
    """Waveform -> mean 0 and variance 1 over each clip -> pad.

    Args:
        sampling_rate: hertz.
        max_length: samples that `padding="max_length"` pads and `truncation` cuts to, and the window in which `encode`
            takes longer clips.
        do_normalize: (x - mean) / sqrt(variance + eps) over the real samples of each clip, before any cut.
        eps: added to the variance.
        min_length: samples of the shortest clip that is taken; the receptive field of the model's first frame.
        padding_value: value of padded samples, after normalisation.
        return_attention_mask: whether batches come with one by default.
    """

    unit = "samples"
    default_padding, default_truncation = "longest", False
    window_samples = step_samples = 1

    def __init__(
        self,
        sampling_rate: int = 16000,
        max_length: int = 320000,
        do_normalize: bool = True,
        eps: float = 1e-5,
        min_length: int = 400,
        padding_value: float = 0.0,
        return_attention_mask: bool = True,
        **kwargs,
    ):
        kwargs.pop("feature_size", None)
        super().__init__(
            feature_size=1,
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )
        self.max_length = max_length
        self.do_normalize = do_normalize
        self.eps = eps
        self.min_length = min_length
        self.require_positive("sampling_rate", "max_length", "eps", "min_length")

    def min_samples(self, padding):
        return self.min_length

    def extract(self, waves):
        if self.do_normalize:
            # clip by clip, so that no other clip of the batch touches the sums
            waves = [torch.nn.functional.layer_norm(wave, wave.shape, eps=self.eps) for wave in waves]
        counts = torch.tensor([len(wave) for wave in waves], device=waves[0].device)
        return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), counts

    def finish(self, features, real):
        return features.masked_fill(~real, self.padding_value) if self.padding_value else features

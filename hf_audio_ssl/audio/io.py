# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Reading audio: decoding, partial reads, mix-down and resampling.

`soundfile` (libsndfile: WAV, FLAC, OGG, MP3, AIFF and more) decodes and `soxr` resamples; both are imported on first
use. torchaudio, torchcodec and FFmpeg are never needed. Nothing is converted silently: the caller names the sampling
rate, and `mono` says whether channels are mixed down.
"""

import io
import os
import re
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

# File names that libsndfile can decode; folder corpora collect these.
EXTENSIONS = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64".split())

# libsndfile reads what is left of a truncated file and only mentions the loss in its log.
_DECLARED_SIZE = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_TRUNCATED_OGG = ("lacks an end-of-stream bit", "Junk after the last page")
# Writers that stream to a pipe cannot know the size and leave a marker close to 2^31 or 2^32.
_UNKNOWN_SIZE = 0x7FFF0000
_MP3_LEAD_IN = 10 * 1152  # frames
_BLOCK = 1 << 22  # frames per read: a corrupt header must not make us allocate what it claims


class AudioReadError(ValueError):
    """The source can't be read as audio: missing, not audio, truncated, empty, or with NaN or infinite samples."""


class AudioReader:
    """An open audio source that is read in parts.

    Attributes:
        sampling_rate (`int`): native rate in Hz.
        frames (`int`): length in samples per channel, at the native rate.
        channels (`int`): number of channels.
    """

    def __init__(self, name: str, frames: int, channels: int, sampling_rate: int, read):
        self.name, self.frames, self.channels, self.sampling_rate = name, frames, channels, sampling_rate
        self._read = read

    def read(self, start: int = 0, frames: int | None = None, mono: bool = True) -> np.ndarray:
        """Samples `[start, start + frames)`, cut at the end of the file.

        Returns:
            float32 `(samples,)` with `mono=True` (mean over channels), otherwise `(channels, samples)`.

        Raises:
            ValueError: the range holds no sample.
            AudioReadError: fewer samples could be decoded than the header promises, or some are not finite.
        """
        expected = min(self.frames - start, self.frames if frames is None else frames)
        if start < 0 or expected <= 0:
            raise ValueError(f"frames [{start}, +{frames}) of {self.name} hold no sample: it has {self.frames} frames")
        wave = self._read(start, expected)  # (samples, channels)
        if len(wave) < expected:
            raise AudioReadError(f"{self.name} is truncated: {start + len(wave)} of {self.frames} frames are readable")
        if not np.isfinite(wave).all():
            raise AudioReadError(f"{self.name} holds NaN or infinite samples")
        if not mono:
            return np.ascontiguousarray(wave.T)
        return wave[:, 0] if self.channels == 1 else wave.mean(axis=1, dtype=np.float32)


@contextmanager
def open_audio(source: Any):
    """Open a source for partial reads; yields an [`AudioReader`].

    Args:
        source: a path, `bytes`, a binary file object, or the audio dict of `datasets`: `{"bytes", "path"}`, or
            `{"array", "sampling_rate"}` with a floating-point array `(samples,)` or `(channels, samples)`.

    Raises:
        AudioReadError: the source can't be read as audio.
        ValueError: `source` is none of these kinds.
    """
    if isinstance(source, Mapping):
        if source.get("array") is not None:
            yield _array_reader(source)
            return
        name = str(source.get("path") or "<bytes>")
        source = source["bytes"] if source.get("bytes") is not None else source.get("path")
        if source is None:
            raise AudioReadError("the audio dict has neither 'bytes' nor 'path' nor 'array'")
    else:
        name = str(source) if isinstance(source, str | os.PathLike) else "<bytes>"
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        source = os.fspath(source)
        if not os.path.isfile(source):
            raise AudioReadError(f"{name}: no such file")
    elif not hasattr(source, "read"):
        raise ValueError(
            f"source is {type(source).__name__}; expected a path, bytes, a binary file object or an audio dict "
            "with 'bytes', 'path' or 'array'"
        )

    import soundfile

    try:
        file = soundfile.SoundFile(source)
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: headerless '.raw' by its name
        # libsndfile's message carries the repr of a memory buffer, whose address differs from run to run.
        reason = re.sub(r"^Error opening <.*?>: ", "", str(error))
        raise AudioReadError(f"{name} can't be read as audio: {reason}") from error
    with file:
        _check_complete(name, file)

        def read(start: int, frames: int) -> np.ndarray:
            blocks, at, end = [], start, start + frames
            try:
                while at < end:
                    # MP3 frames borrow bits from the ones before, and decode to silence right after a seek. soundfile
                    # seeks after each read, so the frames before have to be part of the same read.
                    lead_in = min(at, _MP3_LEAD_IN) if file.format == "MP3" else 0
                    if at:
                        file.seek(at - lead_in)
                    block = file.read(lead_in + min(end - at, _BLOCK), dtype="float32", always_2d=True)[lead_in:]
                    blocks.append(block)
                    at += len(block)
                    if not len(block):
                        break
            except (soundfile.SoundFileError, OSError) as error:
                raise AudioReadError(f"{name} can't be decoded: {error}") from error
            return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

        yield AudioReader(name, file.frames, file.channels, file.samplerate, read)


def load(
    source: Any,
    sampling_rate: int | None = None,
    mono: bool = True,
    offset: float = 0.0,
    duration: float | None = None,
) -> tuple[np.ndarray, int]:
    """Decode audio to float32 in [-1, 1].

    Args:
        source: see [`open_audio`].
        sampling_rate: rate in Hz to resample to; `None` keeps the native rate.
        mono: mix channels down to their mean; otherwise every channel is returned.
        offset, duration: part to read, in seconds; only that part is decoded. `duration=None` reads to the end.

    Returns:
        The samples, `(samples,)` or with `mono=False` `(channels, samples)`, and their sampling rate.

    Raises:
        AudioReadError: unreadable, truncated, empty or non-audio source, or NaN or infinite samples.
        ValueError: `offset`, `duration` or `sampling_rate` out of range.
    """
    if offset < 0 or (duration is not None and duration <= 0):
        raise ValueError(f"offset={offset} and duration={duration} must be at least 0 and above 0 seconds")
    with open_audio(source) as audio:
        start = round(offset * audio.sampling_rate)
        if start >= audio.frames:
            length = audio.frames / audio.sampling_rate
            raise ValueError(f"offset={offset} s is past the end of {audio.name}, which lasts {length:.3f} s")
        frames = None if duration is None else max(1, round(duration * audio.sampling_rate))
        wave, rate = audio.read(start, frames, mono), audio.sampling_rate
    if sampling_rate is None:
        return wave, rate
    return resample(wave, rate, sampling_rate), sampling_rate


def resample(wave: np.ndarray, orig: int, new: int) -> np.ndarray:
    """Resample `(samples,)` or `(channels, samples)` from `orig` to `new` Hz with soxr (HQ).

    The result has `samples * new / orig` samples, rounded, and at least one.
    """
    wave = np.asarray(wave)
    if not np.issubdtype(wave.dtype, np.floating):
        raise ValueError(f"wave has dtype {wave.dtype}; expected floating-point samples in [-1, 1]")
    if wave.ndim not in (1, 2) or not wave.size:
        raise ValueError(f"wave has shape {wave.shape}; expected (samples,) or (channels, samples), not empty")
    if orig <= 0 or new <= 0:
        raise ValueError(f"sampling rates must be positive, got orig={orig} and new={new}")
    wave = wave.astype(np.float32, copy=False)
    if orig == new:
        return wave

    import soxr

    resampled = soxr.resample(np.ascontiguousarray(wave.T), orig, new, quality="HQ").T
    return np.ascontiguousarray(resampled) if resampled.size else wave[..., :1].copy()


def _array_reader(source: Mapping) -> AudioReader:
    wave, rate = np.asarray(source["array"]), source.get("sampling_rate")
    if not rate or rate <= 0:
        raise ValueError(f"audio dict with 'array' needs a positive 'sampling_rate' in Hz, got {rate}")
    if not np.issubdtype(wave.dtype, np.floating):
        raise ValueError(f"array has dtype {wave.dtype}; expected floating-point samples in [-1, 1]")
    if wave.ndim not in (1, 2):
        raise ValueError(f"array has shape {wave.shape}; expected (samples,) or (channels, samples)")
    wave = wave.astype(np.float32, copy=False)
    columns = wave[:, None] if wave.ndim == 1 else wave.T
    name = str(source.get("path") or "<array>")
    if not columns.size:
        raise AudioReadError(f"{name} holds no samples")
    return AudioReader(name, *columns.shape, int(rate), lambda start, frames: columns[start : start + frames])


def _check_complete(name: str, file) -> None:
    """Raise AudioReadError for an empty file, or where libsndfile's log tells that the end is missing."""
    log = file.extra_info
    for declared, present in _DECLARED_SIZE.findall(log):
        if int(present) + 8 < int(declared) < _UNKNOWN_SIZE:  # a pad byte or an odd header is no loss
            raise AudioReadError(f"{name} is truncated: {present} of {declared} bytes are there")
    if any(sign in log for sign in _TRUNCATED_OGG):
        raise AudioReadError(f"{name} is truncated: its last Ogg page is missing")
    if file.frames <= 0:
        raise AudioReadError(f"{name} holds no samples")

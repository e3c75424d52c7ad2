# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Mean and deviation of a corpus's log mel spectrogram: what a feature extractor normalises with."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from hf_audio_ssl.audio.io import AudioReadError, open_audio, resample
from hf_audio_ssl.data.corpus import Corpus, StreamingCorpus

_PIECE_SECONDS = 30.0  # longer files are taken in pieces, so that memory stays bounded


def corpus_statistics(
    corpus: Corpus | StreamingCorpus,
    feature_extractor: Any,
    max_clips: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float | int]:
    """Mean and standard deviation over all frames and mel bins of the log mel, not normalised and without padding.

    Sums are kept in float64. Unreadable files, and clips shorter than one analysis window, are counted in `skipped`.

    Args:
        feature_extractor: has `sampling_rate`, `num_frames(samples)` and `log_mel(list of waves (samples,))` -> log
            mel `(batch, frames, mels)` and frame counts `(batch,)`, as `MelFeatureExtractor` has.
        max_clips: this many clips, drawn at random with `seed` (of a stream: the first ones). By default all.
        progress: called with the number of clips done after each batch.

    Returns:
        `{"mean", "std", "clips", "frames", "seconds", "skipped"}`.

    Raises:
        ValueError: the corpus has no readable clip that is as long as a window; an extractor without a spectrogram.
    """
    if not hasattr(feature_extractor, "log_mel"):
        raise ValueError(f"feature_extractor: {type(feature_extractor).__name__} makes no spectrogram to measure")
    rate = feature_extractor.sampling_rate
    total = {"clips": 0, "skipped": 0}
    frames, values, mean, squares, seconds = 0, 0, 0.0, 0.0, 0.0

    def pieces() -> Iterator[torch.Tensor]:
        nonlocal seconds
        for source in _sources(corpus, max_clips, seed):
            taken = False
            try:
                with open_audio(source) as audio:
                    step = int(_PIECE_SECONDS * audio.sampling_rate)
                    for start in range(0, audio.frames, step):
                        wave = resample(audio.read(start, step), audio.sampling_rate, rate)
                        if feature_extractor.num_frames(len(wave)) > 0:
                            seconds += len(wave) / rate
                            taken = True
                            yield torch.from_numpy(wave)
            except AudioReadError:
                taken = False
            total["clips" if taken else "skipped"] += 1

    def batches() -> Iterator[list[torch.Tensor]]:
        batch = []
        for wave in pieces():
            batch.append(wave)
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    for batch in batches():
        features, counts = feature_extractor.log_mel(batch)
        real = torch.cat([clip[:count] for clip, count in zip(features, counts.tolist(), strict=True)]).double()
        # Chan et al. (1983): merge (count, mean, sum of squared deviations) of the batch into the totals
        size, batch_mean = real.numel(), real.mean().item()
        delta = batch_mean - mean
        squares += (real - batch_mean).square().sum().item() + delta**2 * values * size / (values + size)
        values, frames = values + size, frames + len(real)
        mean += delta * size / values
        if progress is not None:
            progress(total["clips"])
    if not values:
        raise ValueError(f"no clip is readable and as long as an analysis window; {total['skipped']} were skipped")
    return {"mean": mean, "std": (squares / values) ** 0.5, "frames": frames, "seconds": seconds, **total}


def _sources(corpus: Corpus | StreamingCorpus, max_clips: int | None, seed: int) -> Iterator[Any]:
    if corpus.num_clips is None:
        for number, item in enumerate(corpus):
            if max_clips is not None and number >= max_clips:
                return
            yield item["audio"]
    else:
        indices = range(len(corpus))
        if max_clips is not None and max_clips < len(corpus):
            indices = np.sort(np.random.default_rng(seed).permutation(len(corpus))[:max_clips]).tolist()
        for index in indices:
            yield corpus.sources[index]

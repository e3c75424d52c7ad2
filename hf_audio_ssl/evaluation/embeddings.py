# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Embeddings of whole corpora: of a model, and the mel statistics that it has to beat."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hf_audio_ssl.data.corpus import Corpus
from hf_audio_ssl.data.dataset import ClipDataset, collate_clips


@dataclass(frozen=True)
class Embeddings:
    """One row per clip: `x` is (clips, dim).

    `labels` is (clips,) class ids or (clips, classes) multi-hot, None for an unlabelled corpus; `groups` is (clips,)
    names of speakers or recordings, None where there are none; `label_names` are the names of the classes. Clips that
    cannot be read are left out.
    """

    x: np.ndarray
    labels: np.ndarray | None
    groups: np.ndarray | None
    label_names: tuple[str, ...]


def embed_corpus(
    model,
    feature_extractor,
    corpus: Corpus,
    *,
    pool: Literal["mean", "mean_std", "cls"] = "mean",
    layers: int | list[int] = -1,
    batch_size: int = 32,
    num_workers: int = 0,
) -> Embeddings:
    """Clip embeddings of every clip of a corpus with `model.encode`, on the device of the model.

    Args:
        pool, layers: as in `encode`; several layers are concatenated.
        batch_size: clips per forward pass. Clips are sorted by length among their neighbours, so little is padded.
        num_workers: processes that read and decode audio.
    """

    def encode(waves: list[Tensor]) -> Tensor:
        return model.encode(
            waves,
            feature_extractor.sampling_rate,
            pool=pool,
            layers=layers,
            batch_size=batch_size,
            feature_extractor=feature_extractor,
        )

    return _describe_corpus(encode, feature_extractor, corpus, batch_size, num_workers)


def mel_baseline(
    corpus: Corpus,
    feature_extractor,
    statistic: Literal["mean", "mean_std"] = "mean",
    *,
    num_workers: int = 0,
) -> Embeddings:
    """The mean over time of the log mel spectrogram, or its mean and standard deviation: a floor for any embedding."""
    if statistic not in ("mean", "mean_std"):
        raise ValueError(f"statistic: got {statistic!r}, expected 'mean' or 'mean_std'")

    def describe(waves: list[Tensor]) -> Tensor:
        batch = feature_extractor(
            waves,
            sampling_rate=feature_extractor.sampling_rate,
            padding="longest",
            truncation=False,
            return_attention_mask=True,
        )
        mel, real = batch["input_values"], batch["attention_mask"][..., None]
        count = real.sum(1)
        mean = (mel * real).sum(1) / count
        if statistic == "mean":
            return mean
        variance = ((mel - mean[:, None]).square() * real).sum(1) / count
        return torch.cat([mean, variance.sqrt()], dim=1)

    return _describe_corpus(describe, feature_extractor, corpus, 32, num_workers)


def _describe_corpus(
    describe: Callable[[list[Tensor]], Tensor], feature_extractor, corpus: Corpus, batch_size: int, num_workers: int
) -> Embeddings:
    """Read a corpus in chunks, put each through `describe` sorted by length, and collect the rows in their order."""
    clips = ClipDataset(corpus, feature_extractor.sampling_rate, random_crop=False)
    loader = DataLoader(
        clips,
        batch_size=8 * batch_size,  # enough neighbours for sorting to save padding
        collate_fn=collate_clips,
        num_workers=num_workers,
        generator=torch.Generator(),  # the global one belongs to the training that may be going on
    )
    rows, labels, indices, expected = [], [], [], 0
    for chunk in loader:
        # in the place of an unreadable clip another one comes: fit for training, but here it would count twice
        own = chunk["index"] == torch.arange(expected, expected + len(chunk["index"]))
        expected += len(own)
        waves = [pad_to_shortest(wave, feature_extractor) for wave, keep in zip(chunk["audio"], own) if keep]
        order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
        rows.append(describe([waves[i] for i in order])[torch.as_tensor(order).argsort()])
        indices.append(chunk["index"][own])
        if "labels" in chunk:
            labels.append(chunk["labels"][own])
    kept = torch.cat(indices).numpy()
    return Embeddings(
        x=torch.cat(rows).numpy(),
        labels=torch.cat(labels).numpy() if labels else None,
        groups=None if corpus.groups is None else np.array(corpus.groups)[kept],
        label_names=corpus.label_names,
    )


def pad_to_shortest(wave: Tensor, feature_extractor) -> Tensor:
    """Pad a very short clip with silence to the shortest that the extractor takes."""
    missing = feature_extractor.min_samples("longest") - len(wave)
    return torch.nn.functional.pad(wave, (0, missing)) if missing > 0 else wave

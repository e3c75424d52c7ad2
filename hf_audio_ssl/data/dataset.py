# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""From corpora to batches of clips: random crops, damaged files, a resumable order for any number of processes.

Nothing here keeps a random state. A crop is a function of `(seed, epoch, index)` and the order one of `(seed, epoch)`,
so that a run that resumes at step `s` sees what the undisturbed run sees, with any number of DataLoader workers.
"""

import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from hf_audio_ssl.audio.io import AudioReadError, open_audio, resample
from hf_audio_ssl.data.corpus import Corpus, StreamingCorpus
from hf_audio_ssl.feature_extraction_base import MelFeatureExtractor

logger = logging.getLogger(__name__)

_MIN_TOUCHED = 200  # clips before the share of damaged ones means something


class CorpusReadError(RuntimeError):
    """More files of a corpus are unreadable than the set share."""


class _SkipReport:
    """Counts unreadable clips, warns and lists each once in a JSON-lines file, and gives up past a share.

    The counts are those of this process; the file gathers all processes and workers.
    """

    def __init__(self, path: str | os.PathLike | None, max_share: float, num_clips: int | None):
        if not 0 <= max_share < 1:
            raise ValueError(f"max_skipped_share={max_share} must be at least 0 and below 1")
        self.path, self.max_share = path, max_share
        self.least = _MIN_TOUCHED if num_clips is None else min(num_clips, _MIN_TOUCHED)
        self.touched, self.skipped, self._names = 0, 0, set()

    def skip(self, name: str, error: AudioReadError, **where):
        self.skipped += 1
        if name not in self._names:
            self._names.add(name)
            warnings.warn(f"skipped {name} ({self.skipped} of {self.touched} clips so far): {error}", stacklevel=3)
            self._list({"path": name, "error": str(error), **where})
        if self.skipped > self.max_share * max(self.touched, self.least):
            raise CorpusReadError(
                f"{self.skipped} of {self.touched} clips can't be read, more than "
                f"max_skipped_share={self.max_share:g} allows; the last was {name}: {error}"
                + (f". See {self.path}" if self.path else "")
            )

    def _list(self, entry: dict):
        if self.path is None:
            return
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        # other workers, and the run before a restart, may have listed it
        with open(self.path, "a+", encoding="utf-8") as file:
            file.seek(0)
            if all(json.loads(line)["path"] != entry["path"] for line in file if line.endswith("\n")):
                file.write(json.dumps(entry) + "\n")


class _Cropper:
    """Reads a source at the target rate, cut to at most `clip_seconds`, and varies its speed and level."""

    def __init__(
        self,
        sampling_rate: int,
        clip_seconds: float | None,
        random_crop: bool,
        min_seconds: float,
        speed_perturb: float = 0.0,
        gain_db: float = 0.0,
    ):
        if not 0 <= speed_perturb < 1 or gain_db < 0:
            raise ValueError(f"speed_perturb={speed_perturb} must be in [0, 1), gain_db={gain_db} at least 0")
        if sampling_rate <= 0 or (clip_seconds is not None and round(clip_seconds * sampling_rate) < 1):
            raise ValueError(f"sampling_rate={sampling_rate} and clip_seconds={clip_seconds} must be positive")
        if not 0 <= min_seconds <= (math.inf if clip_seconds is None else clip_seconds):
            raise ValueError(f"min_seconds={min_seconds} must be between 0 and clip_seconds={clip_seconds}")
        self.sampling_rate, self.random_crop = sampling_rate, random_crop
        self.speed_perturb, self.gain_db = speed_perturb, gain_db
        self.min_samples = round(min_seconds * sampling_rate)
        self.samples = None if clip_seconds is None else round(clip_seconds * sampling_rate)

    def read(
        self, source: Any, rng: np.random.Generator, cached: tuple[np.ndarray, int] | None = None
    ) -> torch.Tensor:
        if cached is not None:
            wave, rate = cached
            start, frames = self._window(len(wave), rate, rng)
            wave = wave[start : start + frames]
        else:
            with open_audio(source) as audio:
                rate = audio.sampling_rate
                wave = audio.read(*self._window(audio.frames, rate, rng))
        if self.speed_perturb:
            # played faster or slower, as tape: pitch, formants and tempo change together
            rate = round(rate * rng.uniform(1 - self.speed_perturb, 1 + self.speed_perturb))
        wave = resample(wave, rate, self.sampling_rate)[: self.samples]
        if self.gain_db:
            wave = wave * np.float32(10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20))
        if len(wave) < self.min_samples:
            raise AudioReadError(f"it has {len(wave)} samples at {self.sampling_rate} Hz, under {self.min_samples}")
        return torch.tensor(wave)

    def _window(self, frames: int, rate: int, rng: np.random.Generator) -> tuple[int, int]:
        if self.samples is None:
            return 0, frames
        # one more than needed, for resampling rounds the length
        wanted = (
            self.samples if rate == self.sampling_rate else math.ceil(self.samples * rate / self.sampling_rate) + 1
        )
        if frames <= wanted:
            return 0, frames
        return (int(rng.integers(frames - wanted + 1)) if self.random_crop else 0), wanted


class ClipDataset(Dataset):
    """Clips of a corpus: `{"audio": float32 (samples,), "index": int, "label": int or multi-hot float32 (classes,)}`,
    and where the corpus has groups `"group": int`, which counts in `group_names`.

    `dataset[(epoch, index)]` gives the crop of that epoch ([`GlobalBatchSampler`] yields such pairs); `dataset[index]`
    that of the epoch set by `set_epoch`. Clips shorter than `clip_seconds` come as they are: the feature extractor
    pads.

    An unreadable clip is skipped: another one, drawn as a function of `(seed, epoch, index)`, takes its place, a
    warning counts it, and it is listed in `skipped_path` (JSON lines: path, error, index).

    Args:
        corpus: an [`~hf_audio_ssl.data.corpus.Corpus`].
        sampling_rate: rate in Hz that clips are resampled to.
        clip_seconds: longest clip; longer files are cropped. `None`: whole files.
        seed: of crops and replacements.
        random_crop: crop at random; otherwise crops start at the beginning.
        min_seconds: shorter clips count as unreadable. A feature extractor refuses those under one analysis window.
        speed_perturb, gain_db: augmentation: largest relative change of speed, largest change of level in
            decibels; both uniform, functions of `(seed, epoch, index)` as the crop is.
        cache_audio: keep decoded files in memory, at their own rate, up to `cache_bytes` (shared out among the
            workers, which have to be persistent to profit).
        skipped_path: where to list unreadable files.
        max_skipped_share: largest share of unreadable files among those read.
        weights: sampling weight of each clip, for [`GlobalBatchSampler`]: see `group_weights`.

    Raises:
        CorpusReadError: more than `max_skipped_share` of the files read so far are unreadable (from `dataset[...]`).
    """

    def __init__(
        self,
        corpus: Corpus,
        sampling_rate: int,
        clip_seconds: float | None = None,
        seed: int = 0,
        random_crop: bool = True,
        min_seconds: float = 0.0,
        speed_perturb: float = 0.0,
        gain_db: float = 0.0,
        cache_audio: bool = False,
        cache_bytes: int = 2 << 30,
        skipped_path: str | os.PathLike | None = None,
        max_skipped_share: float = 0.1,
        weights: Sequence[float] | None = None,
    ):
        if not len(corpus):
            raise ValueError("the corpus is empty")
        self.weights = weights
        self.group_names = tuple(sorted(set(corpus.groups or ())))
        group_ids = {name: number for number, name in enumerate(self.group_names)}
        self._groups = [group_ids[name] for name in corpus.groups or ()]
        self.corpus, self.seed, self.epoch = corpus, seed, 0
        self.cropper = _Cropper(sampling_rate, clip_seconds, random_crop, min_seconds, speed_perturb, gain_db)
        self.cache_bytes = cache_bytes if cache_audio else 0
        self._cache: dict[int, tuple[np.ndarray, int]] = {}
        self._cached_bytes = 0
        self._report = _SkipReport(skipped_path, max_skipped_share, len(corpus))
        self._state = bytearray(len(corpus))  # 0: not read yet, 1: readable, 2: unreadable

    @property
    def skipped(self) -> int:
        """Number of unreadable files met by this process."""
        return self._report.skipped

    def set_epoch(self, epoch: int):
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (self.epoch, key)
        index = range(len(self))[index]
        for attempt in count():
            rng = np.random.default_rng((self.seed, epoch, index, attempt))
            chosen = index if attempt == 0 else int(rng.integers(len(self)))
            audio = self._read(chosen, rng)
            if audio is not None:
                clip = {"audio": audio, "index": chosen}
                if self.corpus.labels is not None:
                    clip["label"] = _label(self.corpus, self.corpus.labels[chosen])
                if self._groups:
                    clip["group"] = self._groups[chosen]
                return clip

    def _read(self, index: int, rng: np.random.Generator) -> torch.Tensor | None:
        if self._state[index] == 2:
            return None
        self._report.touched += self._state[index] == 0
        try:
            source = None if index in self._cache else self.corpus.sources[index]
            if self.cache_bytes and source is not None:
                self._remember(index, source)
            audio = self.cropper.read(source, rng, self._cache.get(index))
        except AudioReadError as error:
            self._state[index] = 2
            self._report.skip(self.corpus.path(index), error, index=index)
            return None
        self._state[index] = 1
        return audio

    def _remember(self, index: int, source: Any):
        worker = get_worker_info()
        with open_audio(source) as audio:
            size = audio.frames * 4
            if self._cached_bytes + size <= self.cache_bytes // (worker.num_workers if worker else 1):
                self._cache[index] = audio.read(), audio.sampling_rate
                self._cached_bytes += size


class StreamingClipDataset(IterableDataset):
    """Endless batches of clips, as `collate_clips` makes them, from a [`StreamingCorpus`], epoch after epoch.

    It yields whole batches: use `DataLoader(dataset, batch_size=None)`.

    Where the stream has at least one shard for every worker of every process, each reads its own shards, and the order
    depends on their number. Otherwise all read the whole stream, without decoding what is not theirs, and global batch
    `s` holds the same clips for any number of processes and workers.

    A damaged clip is replaced by another one of its batch, cropped anew, and reported as in [`ClipDataset`].

    Args:
        batch_size: clips per batch and process.
        shuffle_buffer: clips (undecoded) among which the next is drawn; 1 keeps the order of the stream.
        num_processes, process_index: of the distributed run.
        start_step: number of batches to pass over, for resuming: they are read, but not decoded.

    The other arguments are those of [`ClipDataset`].
    """

    def __init__(
        self,
        corpus: StreamingCorpus,
        sampling_rate: int,
        clip_seconds: float | None,
        batch_size: int,
        seed: int = 0,
        random_crop: bool = True,
        min_seconds: float = 0.0,
        speed_perturb: float = 0.0,
        gain_db: float = 0.0,
        shuffle_buffer: int = 1000,
        num_processes: int = 1,
        process_index: int = 0,
        start_step: int = 0,
        skipped_path: str | os.PathLike | None = None,
        max_skipped_share: float = 0.1,
    ):
        _check_share(batch_size, num_processes, process_index, start_step)
        self.corpus, self.batch_size, self.seed, self.shuffle_buffer = corpus, batch_size, seed, shuffle_buffer
        self.num_processes, self.process_index, self.start_step = num_processes, process_index, start_step
        self.cropper = _Cropper(sampling_rate, clip_seconds, random_crop, min_seconds, speed_perturb, gain_db)
        self._report = _SkipReport(skipped_path, max_skipped_share, None)

    @property
    def skipped(self) -> int:
        """Number of unreadable clips met by this process."""
        return self._report.skipped

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # A DataLoader takes batches from its workers in turn, and starts with worker 0: that one has to go on with
        # batch `start_step`, whose worker was start_step % workers before the restart.
        reader = (number + self.start_step) % workers
        readers = self.num_processes * workers
        shard = None
        if self.corpus.num_shards >= readers > 1:
            shard = (self.process_index * workers + reader, readers)

        batch = []
        for position, item in enumerate(self._examples(shard)):
            chunk = position // self.batch_size
            if shard is not None:
                step = chunk * workers + reader
                mine = True
            else:
                step, process = divmod(chunk, self.num_processes)
                mine = process == self.process_index and step % workers == reader
            if mine and step >= self.start_step:
                batch.append((position, item))
                if len(batch) == self.batch_size:
                    yield collate_clips(self._decode(batch, shard))
                    batch = []

    def _examples(self, shard: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
        for epoch in count():
            empty = True
            for item in self.corpus.stream(self.seed, epoch, self.shuffle_buffer, shard):
                empty = False
                yield item
            if empty:
                raise ValueError("the stream holds no examples")

    def _decode(self, batch: list[tuple[int, dict]], shard: tuple[int, int] | None) -> list[dict[str, Any]]:
        clips, damaged = {}, []
        for slot, (position, item) in enumerate(batch):
            self._report.touched += 1
            try:
                clips[slot] = self._clip(item, position, shard)
            except AudioReadError as error:
                damaged.append(slot)
                self._report.skip(item["path"], error)
        if not clips:
            raise CorpusReadError(f"none of the {len(batch)} clips of a batch can be read")
        intact = list(clips)
        for slot in damaged:
            clips[slot] = self._clip(batch[intact[slot % len(intact)]][1], batch[slot][0], shard)
        return [clips[slot] for slot in range(len(batch))]

    def _clip(self, item: dict, position: int, shard: tuple[int, int] | None) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, *(shard or (0, 1)), position))
        clip = {"audio": self.cropper.read(item["audio"], rng)}
        if item["label"] is not None:
            clip["label"] = _label(self.corpus, item["label"])
        return clip


class GlobalBatchSampler(Sampler[list[tuple[int, int]]]):
    """Endless batches of `(epoch, index)` for one process of a distributed run: a `batch_sampler` for [`ClipDataset`].

    Each epoch is a permutation of the clips that is a function of `(seed, epoch)`; epochs follow one another without a
    gap. Global batch `s` is the next `batch_size * num_processes` of them, and process r takes the r-th slice: which
    clips make up step `s` does not depend on the number of processes, as long as the global batch is the same size. Do
    not let Accelerate shard it again (keep its DataLoader out of `prepare`).

    Args:
        num_clips: size of the corpus.
        batch_size: clips per batch and process.
        start_step: first batch to yield, for resuming.
        weights: per clip; every epoch draws `num_clips` clips with replacement, with these odds. See
            `class_balanced_weights` and `group_weights`.
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        num_processes: int = 1,
        process_index: int = 0,
        seed: int = 0,
        start_step: int = 0,
        weights: Sequence[float] | None = None,
    ):
        if num_clips < 1:
            raise ValueError(f"num_clips must be at least 1, got {num_clips}")
        _check_share(batch_size, num_processes, process_index, start_step)
        self.num_clips, self.batch_size, self.seed, self.start_step = num_clips, batch_size, seed, start_step
        self.num_processes, self.process_index = num_processes, process_index
        self._cumulative = None
        if weights is not None:
            weights = np.asarray(weights, dtype=np.float64)
            if (
                weights.shape != (num_clips,)
                or not np.isfinite(weights).all()
                or (weights < 0).any()
                or not weights.any()
            ):
                raise ValueError(
                    f"weights of shape {weights.shape}: expected ({num_clips},) values, none negative, not all 0"
                )
            self._cumulative = np.cumsum(weights / weights.sum())

    def order(self, epoch: int) -> np.ndarray:
        """Clip indices of an epoch, `(num_clips,)`."""
        rng = np.random.default_rng((self.seed, epoch))
        if self._cumulative is None:
            return rng.permutation(self.num_clips)
        # sorted draws are looked up an order of magnitude faster, which counts for millions of clips
        draws = np.sort(rng.random(self.num_clips)) * self._cumulative[-1]
        return rng.permutation(np.searchsorted(self._cumulative, draws, side="right"))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, None
        for step in count(self.start_step):
            first = (step * self.num_processes + self.process_index) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                if position // self.num_clips != epoch:
                    epoch = position // self.num_clips
                    order = self.order(epoch)
                batch.append((epoch, int(order[position % self.num_clips])))
            yield batch


def seconds_to_crop(feature_extractor: Any, clip_seconds: float | None) -> float | None:
    """Length in seconds to cut training clips to: `clip_seconds`, or else what the feature extractor keeps of a clip.

    A spectrogram extractor keeps the first `max_length` frames: of longer clips nothing after them would ever be
    heard, so they are cropped before it, and it is said. `None`: whole clips, which other extractors keep.
    """
    if not isinstance(feature_extractor, MelFeatureExtractor):
        return clip_seconds
    rate, limit = feature_extractor.sampling_rate, feature_extractor.max_length
    if clip_seconds is None:
        seconds = (feature_extractor.window_samples + (limit - 1) * feature_extractor.step_samples) / rate
        logger.info(
            "clip_seconds is not set: longer clips are cropped to the %g s of features.max_length=%d frames, at "
            "random places in training",
            seconds,
            limit,
        )
        return seconds
    if (frames := feature_extractor.num_frames(round(clip_seconds * rate))) > limit:
        logger.warning(
            "clip_seconds=%g gives %d frames, of which features.max_length=%d keeps the first",
            clip_seconds,
            frames,
            limit,
        )
    return clip_seconds


def collate_clips(clips: list[dict[str, Any]]) -> dict[str, Any]:
    """`{"audio": list of (samples,), "index" and "group": (batch,), "labels": (batch,) int64 or (batch, classes)
    multi-hot}`.

    Clips keep their lengths: the feature extractor pads. Keys that the clips lack are left out.
    """
    batch: dict[str, Any] = {"audio": [clip["audio"] for clip in clips]}
    if "label" in clips[0]:
        labels = [clip["label"] for clip in clips]
        batch["labels"] = torch.stack(labels) if isinstance(labels[0], torch.Tensor) else torch.tensor(labels)
    for name in ("index", "group"):
        if name in clips[0]:
            batch[name] = torch.tensor([clip[name] for clip in clips])
    return batch


def class_balanced_weights(labels: Sequence[int | Sequence[int]]) -> np.ndarray:
    """Sampling weight per clip, `(clips,)`, that evens out the classes: the sum over its classes of 1 / (clips of it).

    The recipe of AudioSet fine-tuning: Gong et al., "PSLA" (2021), section III.B. A clip without labels is never
    drawn.
    """
    rows = [list(row) if isinstance(row, Sequence) else [row] for row in labels]
    counts = np.bincount([label for row in rows for label in row])
    return np.array([sum(1 / counts[label] for label in row) for row in rows])


def group_weights(
    groups: Sequence[str], exponent: float = 1.0, factors: Mapping[str, float] | None = None
) -> np.ndarray:
    """Sampling weight per clip, `(clips,)`: group l with n_l of N clips is drawn with odds
    factor_l (n_l / N)^exponent, and within a group every clip alike.

    Multilingual wav2vec 2.0 draws languages so, XLSR-53 (arXiv 2006.13979) and XLS-R (2111.09296) with exponent 0.5,
    and counts hours where this counts clips. 1 leaves the corpus as it is, 0 draws every group alike. `factors` weigh
    domains against each other; a group that they do not name has 1, and 0 leaves a group out.

    Raises:
        ValueError: an exponent outside [0, 1], a factor that is negative or names no group, or nothing left to draw.
    """
    factors = dict(factors or {})
    names, index, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if not 0 <= exponent <= 1:
        raise ValueError(f"exponent={exponent}: expected a number in [0, 1]")
    if unknown := sorted(factors.keys() - set(names.tolist())):
        raise ValueError(f"factors: there is no group {', '.join(unknown)}; the groups are {', '.join(names[:20])}")
    factor = np.array([float(factors.get(name, 1.0)) for name in names.tolist()])
    if not (np.isfinite(factor).all() and (factor >= 0).all() and factor.any()):
        raise ValueError(f"factors={factors}: expected none below 0, and not all 0")
    odds = factor * (counts / counts.sum()) ** exponent
    return (odds / odds.sum() / counts)[index]


def _label(corpus: Corpus | StreamingCorpus, label: int | list[int]) -> int | torch.Tensor:
    if not isinstance(label, list):
        return label
    multi_hot = torch.zeros(len(corpus.label_names))
    multi_hot[label] = 1.0
    return multi_hot


def _check_share(batch_size: int, num_processes: int, process_index: int, start_step: int):
    if batch_size < 1 or start_step < 0 or not 0 <= process_index < num_processes:
        raise ValueError(
            f"batch_size={batch_size} must be positive, start_step={start_step} not negative, and "
            f"process_index={process_index} below num_processes={num_processes}"
        )

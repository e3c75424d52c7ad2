# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Data sets of audio clips: any folder, any `datasets` data set, streams, and a built-in synthetic corpus."""

from hf_audio_ssl.data.corpus import Corpus, StreamingCorpus, open_corpus
from hf_audio_ssl.data.dataset import (
    ClipDataset,
    CorpusReadError,
    GlobalBatchSampler,
    StreamingClipDataset,
    class_balanced_weights,
    collate_clips,
    group_weights,
)
from hf_audio_ssl.data.statistics import corpus_statistics
from hf_audio_ssl.data.synthetic import write_corpus

__all__ = [
    "ClipDataset",
    "Corpus",
    "CorpusReadError",
    "GlobalBatchSampler",
    "StreamingClipDataset",
    "StreamingCorpus",
    "class_balanced_weights",
    "collate_clips",
    "corpus_statistics",
    "group_weights",
    "open_corpus",
    "write_corpus",
]

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""How good embeddings are: embeddings of corpora, probes, metrics; and extraction to files.

`evaluation.metrics` holds the scores as `evaluate` metrics; it is imported by name, for it needs `evaluate`.
"""

from hf_audio_ssl.evaluation.embeddings import Embeddings, embed_corpus, mel_baseline
from hf_audio_ssl.evaluation.extraction import extract
from hf_audio_ssl.evaluation.probe import (
    PROBES,
    cross_validate,
    format_rows,
    knn_probe,
    layerwise_probe,
    leave_one_group_out,
    linear_probe,
    make_probe,
    prototypical_probe,
    run_probe,
    stratified_folds,
)

__all__ = [
    "PROBES",
    "Embeddings",
    "cross_validate",
    "embed_corpus",
    "extract",
    "format_rows",
    "knn_probe",
    "layerwise_probe",
    "leave_one_group_out",
    "linear_probe",
    "make_probe",
    "mel_baseline",
    "prototypical_probe",
    "run_probe",
    "stratified_folds",
]

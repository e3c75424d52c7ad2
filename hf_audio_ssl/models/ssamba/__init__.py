# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.registry import Checkpoint, MethodSpec, lazy_module

_CORPUS = "AudioSet and LibriSpeech"

SPEC = MethodSpec(
    name="ssamba",
    prefix="Ssamba",
    title="SSAMBA: Self-Supervised Audio Representation Learning with Mamba State Space Model",
    arxiv="2405.11831",
    year=2024,
    repository="https://github.com/SiavashShams/ssamba",
    license="BSD-3-Clause",
    family="spectrogram state space model",
    taxonomy="generative",
    input="spectrogram",
    sampling_rate=16000,
    checkpoints=(
        Checkpoint("SSAMBA-tiny, 250, 300 or 400 masked patches", "authors' drive", _CORPUS, "BSD-3-Clause"),
        Checkpoint("SSAMBA-small, 250, 300 or 400 masked patches", "authors' drive", _CORPUS, "BSD-3-Clause"),
        Checkpoint("SSAMBA-base, 250, 300 or 400 masked patches", "authors' drive", _CORPUS, "BSD-3-Clause"),
    ),
    parity="verified",
)

__getattr__, __dir__ = lazy_module(SPEC)

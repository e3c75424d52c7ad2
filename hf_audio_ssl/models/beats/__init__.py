# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.registry import Checkpoint, MethodSpec, lazy_module

SPEC = MethodSpec(
    name="beats",
    prefix="Beats",
    more=("BeatsTokenizer", "BeatsTokenizerForPreTraining"),
    title="BEATs: Audio Pre-Training with Acoustic Tokenizers",
    arxiv="2212.09058",
    year=2022,
    repository="https://github.com/microsoft/unilm/tree/master/beats",
    license="MIT",
    family="spectrogram transformer",
    taxonomy="predictive",
    input="spectrogram",
    sampling_rate=16000,
    checkpoints=(
        Checkpoint("BEATs_iter1", "authors' drive", "AS-2M", "MIT"),
        Checkpoint("BEATs_iter2", "authors' drive", "AS-2M", "MIT"),
        Checkpoint("BEATs_iter3", "authors' drive", "AS-2M", "MIT"),
        Checkpoint("BEATs_iter3+ (AS20K)", "authors' drive", "AS-2M", "MIT", "the tokenizer's teacher knew labels"),
        Checkpoint("BEATs_iter3+ (AS2M)", "authors' drive", "AS-2M", "MIT", "the tokenizer's teacher knew labels"),
        Checkpoint("fine-tuned on AudioSet, cpt1 and cpt2 of each", "authors' drive", "AS-2M", "MIT"),
        Checkpoint("Tokenizer_iter2, _iter3, _iter3+ (AS20K, AS2M)", "authors' drive", "AS-2M", "MIT"),
    ),
    parity="verified",
)

__getattr__, __dir__ = lazy_module(SPEC)

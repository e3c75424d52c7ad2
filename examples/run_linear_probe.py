#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Probe the frozen embeddings of a model, beside the same network untrained and mel statistics.

    python examples/run_linear_probe.py --model PRETRAINED --dataset DIR \\
        --label_pattern '(?P<label>[0-9])_(?P<group>[a-z]+)_[0-9]+'

Groups (the pattern's `group`, or `--group_column`) are held out one at a time: speakers never heard. Without groups,
five folds are made. The same as `hf-audio-ssl probe`; `hf_audio_ssl.evaluation.run_probe` is the function behind it.
"""

import sys

from hf_audio_ssl.cli import main

if __name__ == "__main__":
    sys.exit(main(["probe", *sys.argv[1:]]))

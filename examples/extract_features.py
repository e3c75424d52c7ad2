#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Embeddings of any folder of audio to a file: .npz, .safetensors or .parquet.

    python examples/extract_features.py --model PRETRAINED --dataset DIR --output embeddings.parquet

Frames come with the time of their centre in seconds. Long audio is cut into overlapping windows. The same as
`hf-audio-ssl extract`; `hf_audio_ssl.evaluation.extract` is the function behind it.
"""

import sys

from hf_audio_ssl.cli import main

if __name__ == "__main__":
    sys.exit(main(["extract", *sys.argv[1:]]))

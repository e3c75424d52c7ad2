#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Pre-train any method on any audio.

    accelerate launch examples/run_pretraining.py \\
        --recipe examples/recipes/eat/tiny.yaml --dataset DIR --output_dir OUT

Every training argument overrides the recipe, e.g. `--max_steps 2000`; `--set model.num_hidden_layers=6` overrides its
other blocks. The same command again goes on from the last checkpoint. The same as `hf-audio-ssl pretrain`;
`hf_audio_ssl.training.run_pretraining` is the function behind it.
"""

import sys

from hf_audio_ssl.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))

#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Pre-train any method on any audio.

    accelerate launch examples/run_pretraining.py \\
        --recipe examples/recipes/eat/tiny.yaml --dataset DIR --output_dir OUT

Every training argument overrides the recipe, e.g. `--max_steps 2000`; `--set model.num_hidden_layers=6` overrides its
other blocks. The same command again goes on from the last checkpoint.
"""

import logging

from hf_audio_ssl.command_line import parse_pretraining
from hf_audio_ssl.training import run_pretraining


def main():
    logging.basicConfig(format="%(levelname)s %(message)s")
    logging.getLogger("hf_audio_ssl").setLevel(logging.INFO)
    result = run_pretraining(**parse_pretraining(description=__doc__))
    print(f"{result.steps} steps, {result.skipped_steps} skipped. Model, log and plots: {result.output_dir}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Fine-tune a pre-trained model for classification, in full or with LoRA.

    python examples/run_finetuning.py --recipe examples/recipes/eat/finetune_tiny.yaml \\
        --model PRETRAINED --dataset DIR --output_dir OUT --set 'data.label_pattern=(?P<label>[0-9])_(?P<group>[a-z]+)'

Every argument overrides the recipe, e.g. `--max_steps 2000`; `--set model.drop_path_rate=0.1 features.max_length=512`
overrides its blocks. The result opens with `pipeline("audio-classification", model=OUT)`. The same as
`hf-audio-ssl finetune`; `hf_audio_ssl.training.finetuning.run_finetuning` is the function behind it.
"""

import sys

from hf_audio_ssl.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))

#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Fine-tune a pre-trained model for classification, in full or with LoRA.

    python examples/run_finetuning.py --recipe examples/recipes/eat/finetune_tiny.yaml \\
        --model PRETRAINED --dataset DIR --output_dir OUT --set 'data.label_pattern=(?P<label>[0-9])_(?P<group>[a-z]+)'

Every argument overrides the recipe, e.g. `--max_steps 2000`; `--set model.drop_path_rate=0.1 features.max_length=512`
overrides its blocks. The result opens with `pipeline("audio-classification", model=OUT)`.
"""

from hf_audio_ssl.command_line import parse_finetuning
from hf_audio_ssl.training.finetuning import run_finetuning


def main():
    result = run_finetuning(parse_finetuning(description=__doc__))
    figures = {
        k.removeprefix("eval_"): v for k, v in result.metrics.items() if "runtime" not in k and "per_s" not in k
    }
    print(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    print(f"model: {result.output_dir}" + (f", adapter: {result.adapter_dir}" if result.adapter_dir else ""))


if __name__ == "__main__":
    main()

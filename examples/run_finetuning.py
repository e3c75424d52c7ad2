#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Fine-tune a pre-trained model for classification, in full or with LoRA.

    python examples/run_finetuning.py --recipe examples/recipes/eat/finetune_tiny.yaml \\
        --model PRETRAINED --dataset DIR --output_dir OUT --set 'data.label_pattern=(?P<label>[0-9])_(?P<group>[a-z]+)'

Every argument overrides the recipe, e.g. `--max_steps 2000`; `--set model.drop_path_rate=0.1 features.max_length=512`
overrides its blocks. The result opens with `pipeline("audio-classification", model=OUT)`.
"""

import argparse

import yaml
from transformers import HfArgumentParser

import hf_audio_ssl  # noqa: F401  registers the methods
from hf_audio_ssl.training.finetuning import FinetuningArguments, make_finetuning_arguments, run_finetuning

BLOCKS = {"model": "config_overrides", "features": "feature_overrides", "data": "data_options"}


def parse_arguments(argv: list[str] | None = None) -> FinetuningArguments:
    parser = HfArgumentParser(
        FinetuningArguments, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for action in parser._actions:
        # the recipe's value, then the default of FinetuningArguments
        action.default = argparse.SUPPRESS
    parser.add_argument("--recipe", help="YAML file, such as examples/recipes/eat/finetune_tiny.yaml.")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="BLOCK.KEY=VALUE", dest="overrides",
        help="Overrides of the recipe's blocks model, features and data, e.g. model.drop_path_rate=0.1.",
    )  # fmt: skip
    values = vars(parser.parse_args(argv))
    for override in values.pop("overrides"):
        name, equals, value = override.partition("=")
        block, dot, key = name.partition(".")
        if not (equals and dot) or block not in BLOCKS:
            parser.error(f"--set {override}: expected model.KEY=VALUE, features.KEY=VALUE or data.KEY=VALUE")
        # a pattern may hold characters that YAML would read as structure
        value = value if key.endswith("pattern") else yaml.safe_load(value)
        values[BLOCKS[block]] = {**values.get(BLOCKS[block], {}), key: value}
    return make_finetuning_arguments(values, values.pop("recipe", None))


def main():
    result = run_finetuning(parse_arguments())
    figures = {
        k.removeprefix("eval_"): v for k, v in result.metrics.items() if "runtime" not in k and "per_s" not in k
    }
    print(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    print(f"model: {result.output_dir}" + (f", adapter: {result.adapter_dir}" if result.adapter_dir else ""))


if __name__ == "__main__":
    main()

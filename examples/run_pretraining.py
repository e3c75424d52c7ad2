#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Pre-train any method on any audio.

    accelerate launch examples/run_pretraining.py \\
        --recipe examples/recipes/eat/tiny.yaml --dataset DIR --output_dir OUT

Every training argument overrides the recipe, e.g. `--max_steps 2000`; `--set model.num_hidden_layers=6` overrides its
other blocks. The same command again goes on from the last checkpoint.
"""

import argparse
import logging

import yaml
from transformers import HfArgumentParser

from hf_audio_ssl.training import PretrainingArguments, run_pretraining


def parse_arguments(argv: list[str] | None = None) -> dict:
    """The command line as arguments of `run_pretraining`; what is not given is left out."""
    parser = HfArgumentParser(
        PretrainingArguments,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    for action in parser._actions:
        # what is not given is the recipe's to say, and then PretrainingArguments' own default
        action.default = argparse.SUPPRESS
    what = parser.add_argument_group("what to train on what")
    what.add_argument("--recipe", help="YAML file, such as examples/recipes/eat/tiny.yaml.")
    what.add_argument("--method", help="Method, where the recipe does not name it, such as eat.")
    what.add_argument("--dataset", help="Folder of audio files, name of a Hub data set, or synthetic.")
    what.add_argument("--init_from", help="Model folder or Hub id to start from instead of random weights.")
    what.add_argument(
        "--set", nargs="+", default=[], metavar="BLOCK.KEY=VALUE", dest="overrides",
        help="Overrides of the recipe's blocks model, features and data, e.g. model.hidden_size=192 data.split=train.",
    )  # fmt: skip
    arguments = vars(parser.parse_args(argv))
    for override in arguments.pop("overrides"):
        name, equals, value = override.partition("=")
        block, dot, key = name.partition(".")
        if not (equals and dot) or block not in ("model", "features", "data"):
            parser.error(f"--set {override}: expected model.KEY=VALUE, features.KEY=VALUE or data.KEY=VALUE")
        arguments.setdefault(block, {})[key] = yaml.safe_load(value)
    return arguments


def main():
    arguments = parse_arguments()
    logging.basicConfig(format="%(levelname)s %(message)s")
    logging.getLogger("hf_audio_ssl").setLevel(logging.INFO)
    result = run_pretraining(**arguments)
    print(f"{result.steps} steps, {result.skipped_steps} skipped. Model, log and plots: {result.output_dir}")


if __name__ == "__main__":
    main()

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Command lines that the CLI shares with the examples and the conversion scripts."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import HfArgumentParser

from hf_audio_ssl.training.arguments import load_yaml

BLOCKS = ("model", "features", "data", "probe")


def recipe_parser(dataclass, **kwargs) -> argparse.ArgumentParser:
    """`--field VALUE` for every field, `--recipe FILE` and `--set BLOCK.KEY=VALUE ...`.

    What is not given stays out of the namespace: the recipe's value counts then, or else the dataclass's default.
    """
    parser = HfArgumentParser(dataclass, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
    for action in list(parser._actions):
        action.default = argparse.SUPPRESS
        if action.type is dict:  # --set gives them, key by key
            for option in action.option_strings:
                del parser._option_string_actions[option]
            action.container._remove_action(action)
    add_recipe(parser)
    return parser


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """`--recipe` and `--set`, which `parse_recipe_arguments` reads."""
    parser.add_argument(
        "--recipe", default=argparse.SUPPRESS, help="YAML file, such as examples/recipes/eat/tiny.yaml"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",  # each --set adds to those before it
        default=[],
        metavar="BLOCK.KEY=VALUE",
        dest="overrides",
        help="overrides of the recipe's blocks, such as model.hidden_size=192 features.max_length=64 data.split=train",
    )


def parse_recipe_arguments(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, blocks: Sequence[str] = BLOCKS
) -> dict:
    """The arguments that were given, with the overrides gathered under `<block> block`."""
    given = vars(parser.parse_args(argv))
    for override in given.pop("overrides"):
        name, equals, value = override.partition("=")
        block, dot, key = name.partition(".")
        if not (equals and dot) or block not in blocks:
            parser.error(f"--set {override}: expected BLOCK.KEY=VALUE with one of {', '.join(blocks)}")
        # a regular expression may hold what YAML reads as structure
        value = value if key in ("label_pattern", "include") else load_yaml(value, f"--set {override}: {value!r}")
        given.setdefault(f"{block} block", {})[key] = value
    return given


def parse_pretraining(argv: Sequence[str] | None = None, **kwargs) -> dict:
    """A command line as arguments of `hf_audio_ssl.training.run_pretraining`."""
    from hf_audio_ssl.training.arguments import PretrainingArguments

    parser = recipe_parser(PretrainingArguments, **kwargs)
    what = parser.add_argument_group("what to train on what", argument_default=argparse.SUPPRESS)
    what.add_argument("--method", help="method, where the recipe does not name it, such as eat")
    what.add_argument("--dataset", help="folder of audio files, name of a Hub data set, or synthetic")
    what.add_argument("--init_from", help="model folder or Hub id to start from instead of random weights")
    given = parse_recipe_arguments(parser, argv)
    return {name.removesuffix(" block"): value for name, value in given.items()}


def parse_finetuning(argv: Sequence[str] | None = None, kind: type | None = None, **kwargs):
    """A command line as `hf_audio_ssl.training.finetuning.FinetuningArguments`, or as another `kind`."""
    from hf_audio_ssl.training.finetuning import OVERRIDES, FinetuningArguments, make_finetuning_arguments

    kind = kind or FinetuningArguments
    given = parse_recipe_arguments(recipe_parser(kind, **kwargs), argv, tuple(OVERRIDES))
    recipe = given.pop("recipe", None)
    for block, name in OVERRIDES.items():
        given[name] = given.pop(f"{block} block", None)
    return make_finetuning_arguments(given, recipe, kind)


def conversion_command(
    convert: Callable, feature_extractor: Callable, argv: Sequence[str] | None = None, **kwargs
) -> Path:
    """The command line of all conversion scripts; see `hf_audio_ssl.conversion.run_conversion`. Returns the folder."""
    from hf_audio_ssl.conversion import run_conversion

    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
    parser.add_argument("--checkpoint", required=True, help="the authors' file (.pt, .safetensors ...)")
    parser.add_argument("--original-config", help="JSON with the original settings, if the file holds none")
    parser.add_argument("--output", required=True, help="folder to write; must not exist or be empty")
    parser.add_argument("--push-to-hub", metavar="ID", help="repository to upload the result to")
    args = parser.parse_args(argv)
    return run_conversion(
        convert,
        args.checkpoint,
        args.output,
        original_config=args.original_config,
        feature_extractor=feature_extractor,
        push_to_hub=args.push_to_hub,
    )

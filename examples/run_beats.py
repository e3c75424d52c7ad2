#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""BEATs from nothing, in iterations (arXiv 2212.09058, section 3.1): each tokenizer is distilled from the last model.

    accelerate launch examples/run_beats.py --recipe examples/recipes/beats/tiny.yaml \\
        --tokenizer_recipe examples/recipes/beats/tokenizer_tiny.yaml --dataset DIR --output_dir OUT

Writes OUT/iteration1 (taught by random-projection labels), OUT/tokenizer2 (distilled from iteration1), OUT/iteration2
(taught by tokenizer2's labels), and so on for more --iterations. Each is a model folder with its own checkpoints, log
and plots. The same command again goes on where the last one stopped, between stages or inside one.

--recipe is for the models, --tokenizer_recipe for the tokenizers; what is given here overrides both, for instance
--save_steps 500 or --set data.num_clips=100. The recipe's features count for all stages.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from hf_audio_ssl import BeatsConfig, BeatsForPreTraining, BeatsTokenizerForPreTraining
from hf_audio_ssl.cli import run_program
from hf_audio_ssl.command_line import parse_recipe_arguments, recipe_parser
from hf_audio_ssl.registry import get_method
from hf_audio_ssl.training import PretrainingArguments, Recipe, make_arguments, open_clips, pretrain
from hf_audio_ssl.training.run import find_plan, make_extractor, refuse_unknown_fields

logger = logging.getLogger("hf_audio_ssl.run_beats")


def from_scratch(**config) -> BeatsForPreTraining:
    """A model that learns random-projection labels."""
    return BeatsForPreTraining(BeatsConfig(**config))


def run_stage(folder: Path, build: Callable, plan: Recipe, features: dict, dataset: str | None, given: dict) -> str:
    """Train what `build(**config)` returns, go on with it, or find that it is done. Returns the model's folder."""
    logger.info("stage %s", folder.name)
    training = {name: value for name, value in given.items() if not name.endswith(" block")}
    args = make_arguments({**plan.training, **training, "output_dir": str(folder)})
    data = {**plan.data, **given.get("data block", {})}
    config = {**plan.model, **given.get("model block", {})}
    refuse_unknown_fields(config, BeatsConfig)
    extractor = make_extractor(get_method("beats"), features)
    clips = open_clips(dataset, data, extractor, args)
    torch.manual_seed(args.seed)  # the first weights
    model = build(**config)
    return str(pretrain(model, extractor, clips, args).output_dir)


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(PretrainingArguments, description=__doc__)
    parser.add_argument("--tokenizer_recipe", required=True, help="YAML file for the training of the tokenizers")
    parser.add_argument("--dataset", help="folder of audio files, name of a Hub data set, or synthetic")
    parser.add_argument("--iterations", type=int, default=2, help="models to train, one after the other (default 2)")
    parser.add_argument("--teacher", help="folder of a BEATs, fine-tuned or not, that stands in for iteration1")
    given = parse_recipe_arguments(parser, argv)
    own = {name: given.pop(name, None) for name in ("recipe", "tokenizer_recipe", "dataset", "iterations", "teacher")}
    if own["recipe"] is None or "output_dir" not in given:
        parser.error("--recipe and --output_dir are required")
    (_, plan), (_, tokenizer_plan) = (find_plan(own[name], "beats") for name in ("recipe", "tokenizer_recipe"))
    if plan.probe or tokenizer_plan.probe or "probe block" in given or tokenizer_plan.features:
        parser.error("stages are not probed, and take their features from --recipe: leave these blocks out")

    output_dir = Path(given.pop("output_dir"))
    shared = {
        "features": {**plan.features, **given.pop("features block", {})},
        "dataset": own["dataset"],
        "given": given,
    }
    teacher = own["teacher"]
    if teacher is None:
        teacher = run_stage(output_dir / "iteration1", from_scratch, plan, **shared)
    for iteration in range(2, own["iterations"] + 1):
        distil = partial(BeatsTokenizerForPreTraining.from_teacher, teacher)
        tokenizer = run_stage(output_dir / f"tokenizer{iteration}", distil, tokenizer_plan, **shared)
        build = partial(BeatsForPreTraining.from_tokenizer, tokenizer)
        teacher = run_stage(output_dir / f"iteration{iteration}", build, plan, **shared)
    print(f"model: {teacher}")


if __name__ == "__main__":
    sys.exit(run_program(main, sys.argv[1:], "run_beats.py"))

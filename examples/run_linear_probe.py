#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Probe the frozen embeddings of a model, beside the same network untrained and mel statistics.

    python examples/run_linear_probe.py --model PRETRAINED --dataset DIR \\
        --label_pattern '(?P<label>[0-9])_(?P<group>[a-z]+)_[0-9]+'

Groups (the pattern's `group`, or `--group_column`) are held out one at a time: speakers never heard.
Without groups, five folds are made.
"""

import argparse
import json

import hf_audio_ssl  # noqa: F401  registers the methods
from hf_audio_ssl.evaluation import PROBES, format_rows, run_probe


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Folder or Hub id of a model.")
    parser.add_argument("--dataset", required=True, help="Folder of audio, name of a Hub data set, or synthetic.")
    parser.add_argument("--split", help="Split of the data set.")
    parser.add_argument("--config", help="Configuration of a Hub data set.")
    parser.add_argument("--label_pattern", help="Regular expression on file names with the groups label and group.")
    parser.add_argument("--label_column", help="Column of a data set that holds the labels.")
    parser.add_argument("--group_column", help="Column of a data set that holds the groups.")
    parser.add_argument("--num_clips", type=int, help="Size of the synthetic corpus.")
    parser.add_argument("--probes", nargs="+", default=["linear", "knn"], choices=list(PROBES))
    parser.add_argument("--pool", default="mean", choices=["mean", "mean_std", "cls"], help="How frames are pooled.")
    parser.add_argument("--layers", nargs="+", type=int, default=[-1], help="Hidden states; several are concatenated.")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--num_workers", type=int, default=0, help="Processes that read audio.")
    parser.add_argument("--device", help="Such as cuda or cpu. Default: a GPU if there is one.")
    parser.add_argument("--seed", type=int, default=0, help="Of the untrained network and of the folds.")
    parser.add_argument("--no_baselines", action="store_false", dest="baselines", help="Probe the model alone.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    return parser.parse_args(argv)


def main():
    arguments = vars(parse_arguments())
    as_json = arguments.pop("json")
    rows = run_probe(**{name: value for name, value in arguments.items() if value is not None})
    print(json.dumps(rows, indent=2) if as_json else format_rows(rows))


if __name__ == "__main__":
    main()

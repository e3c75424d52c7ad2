#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Embeddings of any folder of audio to a file: .npz, .safetensors or .parquet.

    python examples/extract_features.py --model PRETRAINED --dataset DIR --output embeddings.parquet

Frames come with the time of their centre in seconds. Long audio is cut into overlapping windows.
"""

import argparse

from tqdm import tqdm

import hf_audio_ssl  # noqa: F401  registers the methods
from hf_audio_ssl.evaluation import extract


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Folder or Hub id of a model.")
    parser.add_argument("--dataset", required=True, help="Folder of audio, name of a Hub data set, or synthetic.")
    parser.add_argument("--output", required=True, help="File to write; its ending is the format.")
    parser.add_argument("--split", help="Split of the data set.")
    parser.add_argument("--pool", default="frames", choices=["frames", "mean", "mean_std", "cls"])
    parser.add_argument("--layers", nargs="+", type=int, default=[-1], help="Hidden states; several are concatenated.")
    parser.add_argument("--window", type=float, help="Seconds; longer clips are cut. Default: the model's own length.")
    parser.add_argument("--hop", type=float, help="Seconds between windows. Default: half a window.")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--device", help="Such as cuda or cpu. Default: a GPU if there is one.")
    return parser.parse_args(argv)


def main():
    arguments = {name: value for name, value in vars(parse_arguments()).items() if value is not None}
    with tqdm(unit="clip") as bar:

        def progress(done: int, total: int):
            bar.total = total
            bar.update(done - bar.n)

        counts = extract(**arguments, progress=progress)
    print(f"{arguments['output']}: " + ", ".join(f"{value} {name}" for name, value in counts.items()))


if __name__ == "__main__":
    main()

#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Does each method learn? Its tiny recipe on the spoken digits of speakers never heard, several seeds, one table.

One pre-training run without labels on the clips of index 5 to 49, then probes of the frozen encoder that leave one
speaker out, against the same network untrained and against mel statistics. Runs that are in the output folder already
are not made again.

python benchmarks/learning.py --dataset DIGITS --output_dir learning --jobs 2 --update
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from timing import table

ROOT = Path(__file__).parents[1]
TRAINING_PART = r"_(?:[5-9]|[1-4][0-9])$"
MEL = ("mel mean", "mel mean + deviation")
PROBES = ("linear", "knn")
LABELS = "(?P<label>[0-9])_(?P<group>[a-z]+)_[0-9]+"


def command(name: str, *options: str) -> tuple[str, float]:
    """Standard output and CPU seconds of `hf-audio-ssl NAME`, on one thread. Raises RuntimeError with its errors."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_audio_ssl.cli", name, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:  # both pipes have to be emptied
        errors = pool.submit(process.stderr.read)
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{name} {' '.join(options)} failed:\n{errors.result()[-3000:]}")
    return output, usage.ru_utime + usage.ru_stime


def run(method: str, seed: int, dataset: str, output_dir: Path) -> dict:
    """Pre-train and probe; the result is kept in `result.json` beside the model."""
    folder = output_dir / method / str(seed)
    kept = folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    recipe = ROOT / "examples" / "recipes" / method / "tiny.yaml"
    _, seconds = command(
        "pretrain", "--recipe", str(recipe), "--dataset", dataset, "--seed", str(seed), "--cpu_threads", "1",
        "--output_dir", str(folder), "--set", f"data.include={TRAINING_PART}",
    )  # fmt: skip
    rows, _ = command(
        "probe", "--model", str(folder), "--dataset", dataset, "--label_pattern", LABELS, "--pool", "mean_std",
        "--seed", str(seed), "--json",
    )  # fmt: skip
    result = {
        "method": method,
        "seed": seed,
        "minutes": seconds / 60,
        "parameters": encoder_size(folder),
        "accuracy": {f"{row['features']}, {row['probe']}": 100 * row["accuracy"] for row in json.loads(rows)},
    }
    kept.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{method}, seed {seed}: {json.dumps(result['accuracy'])}", file=sys.stderr)
    return result


def encoder_size(folder: Path) -> int:
    import torch
    from transformers import AutoConfig, AutoModel

    import hf_audio_ssl  # noqa: F401  registers the methods

    with torch.device("meta"):
        return sum(p.numel() for p in AutoModel.from_config(AutoConfig.from_pretrained(folder)).parameters())


def in_seeds(runs: list[dict], key: str) -> str:
    """Mean of an accuracy, and each seed's."""
    values = [run["accuracy"][key] for run in runs]
    return f"{statistics.mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def overview(results: list[dict]) -> str:
    """One row for each method, one number for each seed."""
    rows = []
    for method in dict.fromkeys(result["method"] for result in results):
        runs = [result for result in results if result["method"] == method]
        gains = [r["accuracy"]["pre-trained, linear"] - r["accuracy"]["untrained, linear"] for r in runs]
        rows.append(
            [
                f"`{method}`",
                f"{runs[0]['parameters'] / 1e6:.1f} M",
                f"{statistics.mean(r['minutes'] for r in runs):.1f}",
                in_seeds(runs, "untrained, linear"),
                in_seeds(runs, "pre-trained, linear"),
                f"{min(gains):+.1f} to {max(gains):+.1f}",
                f"{statistics.mean(r['accuracy']['untrained, knn'] for r in runs):.1f}",
                f"{statistics.mean(r['accuracy']['pre-trained, knn'] for r in runs):.1f}",
            ]
        )
    for name in MEL:
        values = [f"{statistics.mean(r['accuracy'][f'{name}, {probe}'] for r in results):.1f}" for probe in PROBES]
        rows.append([name, "", "", "", values[0], "", "", values[1]])
    header = [
        "method", "encoder", "CPU minutes", "untrained, linear", "pre-trained, linear", "gain", "untrained, kNN",
        "pre-trained, kNN",
    ]  # fmt: skip
    return table(header, rows)


def for_card(runs: list[dict]) -> str:
    """The same of one method."""
    rows = [[name, *(in_seeds(runs, f"{name}, {p}") for p in PROBES)] for name in (*MEL, "untrained", "pre-trained")]
    return table(["clip embedding", *PROBES], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="folder of the Free Spoken Digit Dataset's recordings")
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--methods", nargs="+", help="default: all that have a tiny recipe")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--update", action="store_true", help="write the cards' tables and, of all methods, README's")
    args = parser.parse_args()
    methods = args.methods or sorted(path.parent.name for path in (ROOT / "examples/recipes").glob("*/tiny.yaml"))
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(run, m, seed, args.dataset, args.output_dir) for m in methods for seed in args.seeds]
    results = [job.result() for job in jobs]
    print(overview(results))
    if args.update:
        from hf_audio_ssl.hub.card import replace_block

        if not args.methods:  # a part of the methods would drop the others from its table
            replace_block(ROOT / "README.md", "learning", overview(results))
        for method in methods:
            runs = [result for result in results if result["method"] == method]
            replace_block(ROOT / "model_cards" / f"{method}.md", "learning", for_card(runs))


if __name__ == "__main__":
    main()

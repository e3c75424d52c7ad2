#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Time of `import hf_audio_ssl` against `import torch, transformers`, in fresh processes that take turns.

python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys
import time

RUNS = 7
STATEMENTS = {
    "torch, transformers": "import torch, transformers",
    "hf_audio_ssl": "import torch, transformers, hf_audio_ssl",
}


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    times = {name: [] for name in STATEMENTS}
    for statement in STATEMENTS.values():
        seconds(statement)  # fills the disk cache
    for _ in range(RUNS):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(
            f"import {name:<22} {median:6.2f} s (median of {RUNS}, {min(times[name]):.2f} to {max(times[name]):.2f})"
        )
    base, ours = medians.values()
    print(f"ratio {ours / base:.2f}")


if __name__ == "__main__":
    main()

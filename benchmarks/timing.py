# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""How the benchmarks measure: contestants take turns in one process, so that noise hits all of them alike."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def take_turns(
    calls: dict[str, Callable[[], object]],
    repetitions: int,
    warm_up: int = 1,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every repetition of every call. The order turns around each round, so that nobody always goes first.

    A call that runs out of GPU memory leaves the contest with an empty list.

    Args:
        clock: `time.process_time` counts this process alone: right for one CPU thread beside other jobs.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    running = dict(calls)
    for repetition in range(-warm_up, repetitions):
        for name in list(running) if repetition % 2 else list(running)[::-1]:
            try:
                seconds = _seconds(running[name], device, clock)
            except torch.OutOfMemoryError:
                del running[name]
                times[name].clear()
                torch.cuda.empty_cache()
                continue
            if repetition >= 0:
                times[name].append(seconds)
    return times


def _seconds(call: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = clock()
    call()
    wait()
    return clock() - start


def median(times: Sequence[float]) -> float | None:
    return statistics.median(times) if times else None


def machine(device: str = "cpu") -> str:
    """The processor, the number of threads in use, the GPU if it takes part, and torch's version."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    parts = [cpu, f"{torch.get_num_threads()} thread(s)", f"torch {torch.__version__}"]
    if device.startswith("cuda"):
        parts.insert(0, torch.cuda.get_device_name(device))
    return ", ".join(parts)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with three significant digits, None as a dash."""

    def cell(value: object) -> str:
        if value is None:
            return "-"
        if isinstance(value, float):
            return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return str(value)

    lines = [header, ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

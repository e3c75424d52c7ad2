#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Throughput of the batched Kaldi filter bank against `torchaudio.compliance.kaldi.fbank`, on the same clips.

python benchmarks/fbank.py                    # one CPU thread
python benchmarks/fbank.py --device cuda      # the GPU against torchaudio on the CPU, and on the same GPU
"""

import argparse
import json

import torch
from timing import machine, median, table, take_turns
from torch import Tensor

from hf_audio_ssl.audio.fbank import kaldi_fbank

try:
    from torchaudio.compliance import kaldi
except (ImportError, OSError, RuntimeError):
    # torchaudio loads only beside the torch build it was made for
    kaldi = None

SAMPLING_RATE = 16000
# name -> seconds of each clip
CASES = {
    "64 clips of 10 s": [10.0] * 64,
    "16 clips of 10 s": [10.0] * 16,
    "1 clip of 10 s": [10.0],
    "1 clip of 1 s": [1.0],
    "16 clips of 1 to 10 s": [1.0 + 9.0 * i / 15 for i in range(16)],
    "64 clips of 0.2 to 10 s": [0.2 + 9.8 * (i * 37 % 64) / 63 for i in range(64)],
}


def make_clips(seconds: list[float]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(int(s * SAMPLING_RATE), generator=generator) for s in seconds]


def ours(clips: list[Tensor]) -> Tensor:
    """One call for all clips."""
    return kaldi_fbank(clips, sampling_rate=SAMPLING_RATE)[0]


def torchaudio_loop(clips: list[Tensor]) -> list[Tensor]:
    """EAT's settings. torchaudio takes one clip a call."""
    return [
        kaldi.fbank(
            clip[None],
            htk_compat=True,
            sample_frequency=SAMPLING_RATE,
            use_energy=False,
            window_type="hanning",
            num_mel_bins=128,
            dither=0.0,
        )
        for clip in clips
    ]


def measure(name: str, device: str, repetitions: int) -> dict:
    """Median milliseconds of each contestant on one case, and the largest difference of the log-mel values."""
    clips = make_clips(CASES[name])
    calls = {f"ours, {device}": lambda: ours(clips)}
    if device != "cpu":
        on_device = [clip.to(device) for clip in clips]
        calls = {
            f"ours, {device}": lambda: ours(on_device),
            f"ours, {device}, copies from and to the host included": lambda: ours(
                [clip.to(device) for clip in clips]
            ).cpu(),
            "ours, cpu": lambda: ours(clips),
        }
    difference = None
    if kaldi is not None:
        calls["torchaudio, cpu"] = lambda: torchaudio_loop(clips)
        if device != "cpu":
            calls[f"torchaudio, {device}"] = lambda: torchaudio_loop(on_device)
        result = ours(clips if device == "cpu" else on_device).cpu()
        difference = max((row[: len(e)] - e).abs().max().item() for row, e in zip(result, torchaudio_loop(clips)))
    times = take_turns(calls, repetitions, warm_up=2, device=device)
    return {
        "case": name,
        "audio_seconds": sum(CASES[name]),
        "milliseconds": {caller: 1000 * median(values) for caller, values in times.items()},
        "max_abs_difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", help="where our filter bank runs: cpu (default), cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--repetitions", type=int, default=9, help="rounds in which the contestants take turns")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="which batches to measure")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    results = [measure(name, args.device, args.repetitions) for name in args.cases]
    if args.json:
        print(json.dumps({"machine": machine(args.device), "repetitions": args.repetitions, "results": results}))
        return
    print(f"{machine(args.device)}; medians of {args.repetitions} alternating runs\n")
    first = f"ours, {args.device}"
    others = [caller for caller in results[0]["milliseconds"] if caller != first]
    header = ["clips", f"{first}: ms", "hours of audio a second"]
    header += [text for caller in others for text in (f"{caller}: ms", "times ours")]
    rows = []
    for result in results:
        times = result["milliseconds"]
        row = [result["case"], times[first], result["audio_seconds"] / 3.6 / times[first]]
        rows.append(row + [value for caller in others for value in (times[caller], times[caller] / times[first])])
    if kaldi is not None:
        header.append("largest difference in log mel")
        for row, result in zip(rows, results):
            row.append(f"{result['max_abs_difference']:.1e}")
    print(table(header, rows))
    if kaldi is None:
        print("\ntorchaudio does not load beside this torch: no comparison with it")


if __name__ == "__main__":
    main()

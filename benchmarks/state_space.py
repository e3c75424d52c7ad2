#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Time and peak memory of SSAMBA tiny against attention of its size (SSAST tiny: 192 wide, 12 layers), by length.

python benchmarks/state_space.py                                         # a CPU thread, one clip
python benchmarks/state_space.py --device cuda --batch_size 2            # mamba_ssm's kernel, if it is installed
python benchmarks/state_space.py --scan                                  # the scan alone, against one step at a time

Every measurement has a process of its own, so that its peak memory is its own: what the process has at its peak beyond
the loaded model and its input. Time (on a CPU, CPU time) is the fastest of `--repetitions` runs after a warm-up.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from timing import machine, table
from torch import nn
from torch.nn import functional as F

from hf_audio_ssl import SsambaConfig, SsambaModel
from hf_audio_ssl.models.ssamba.modeling_ssamba import SsambaEmbeddings
from hf_audio_ssl.modules.state_space import selective_scan
from hf_audio_ssl.modules.transformer import TransformerLayer

MODELS = ("ssamba", "attention", "attention, eager")
MODES = ("inference", "training", "training, checkpointed")
# the weights of attention at once, in bytes per clip: 3 heads, float32, and their softmax
EAGER_LIMIT = 8e9


class AttentionModel(nn.Module):
    """A ViT on SSAMBA's patches and positions, with the library's own block."""

    def __init__(self, config):
        super().__init__()
        self.embeddings = SsambaEmbeddings(config)
        self.layers = nn.ModuleList(TransformerLayer(config, i, norm_first=True) for i in range(12))
        self.norm = nn.LayerNorm(config.hidden_size)
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, input_values):
        x = self.embeddings(input_values, None, None, None)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def gradient_checkpointing_enable(self):
        for layer in self.layers:
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = torch.utils.checkpoint.checkpoint


def build(name: str, tokens: int) -> nn.Module:
    sizes = dict(hidden_size=192, drop_path_rate=0.0, position_columns=tokens // 8)
    if name == "ssamba":
        model = SsambaModel(SsambaConfig(**sizes, intermediate_size=384, time_step_rank=12))
        return Last(model)
    config = SsambaConfig(**sizes, intermediate_size=768, num_attention_heads=3)
    config._attn_implementation = "eager" if name.endswith("eager") else "sdpa"
    return AttentionModel(config)


class Last(nn.Module):
    """The last hidden state of a model of transformers."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_values):
        return self.model(input_values).last_hidden_state

    def gradient_checkpointing_enable(self):
        self.model.gradient_checkpointing_enable({"use_reentrant": False})


def measure(name: str, tokens: int, mode: str, args) -> dict:
    """Seconds and peak bytes of one model at one length, in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    model = build(name, tokens).to(device)
    x = torch.randn(args.batch_size, 16 * tokens // 8, 128, device=device)
    cpu = device.type == "cpu"
    if mode.startswith("training"):
        model.train()
        if mode.endswith("checkpointed"):
            model.gradient_checkpointing_enable()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    else:
        model.eval()

    def run():
        if mode == "inference":
            with torch.inference_mode():
                return model(x)
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    before = resident() if cpu else torch.cuda.memory_allocated()
    times = []
    for repetition in range(-1, args.repetitions) if tokens <= args.once_beyond else (0,):
        cpu or torch.cuda.synchronize()
        start = time.process_time() if cpu else time.perf_counter()
        run()
        cpu or torch.cuda.synchronize()
        seconds = (time.process_time() if cpu else time.perf_counter()) - start
        if repetition >= 0:
            times.append(seconds)
    # kilobytes on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if cpu else torch.cuda.max_memory_allocated()
    parameters = sum(p.numel() for p in model.parameters())
    return {"seconds": min(times), "bytes": peak - before, "parameters": parameters}


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def in_new_process(name: str, tokens: int, mode: str) -> dict | None:
    """None if it ran out of memory or was killed."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", json.dumps([name, tokens, mode])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "OutOfMemoryError" not in done.stderr and done.returncode >= 0:
        raise RuntimeError(done.stderr)
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def compare_models(args) -> None:
    for mode in args.modes:
        rows = []
        for tokens in args.tokens:
            results = []
            for name in args.models:
                weights = 2 * 3 * 4 * args.batch_size * tokens**2 * (1 if mode == "inference" else 12)
                skip = name.endswith("eager") and weights > EAGER_LIMIT
                results.append(None if skip else in_new_process(name, tokens, mode))
            cells = [x for r in results for x in ((r["seconds"], r["bytes"] / 2**20) if r else (None, None))]
            rows.append([tokens, *cells])
            print(f"{mode}, {tokens} tokens: {results}", file=sys.stderr, flush=True)
        header = [x for name in args.models for x in (f"{name}: s", "MiB")]
        print(f"\n{mode}, {args.batch_size} clip(s); {machine(args.device)}\n")
        print(table(["tokens", *header], rows), flush=True)


def step_by_step(u, delta, A, B, C, D):
    """The recurrence as it is written, differentiated by autograd."""
    step, state, outputs = F.softplus(delta), u.new_zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[1]):
        state = (step[:, t, :, None] * A).exp() * state + (step[:, t] * u[:, t])[..., None] * B[:, t, None]
        outputs.append((state @ C[:, t, :, None])[..., 0])
    return torch.stack(outputs, dim=1) + D * u


def compare_scans(args) -> None:
    """One scan of SSAMBA tiny (384 channels, 16 states), forward and backward."""
    torch.set_num_threads(args.threads)
    rows = []
    for tokens in args.tokens:
        shapes = ((1, tokens, 384), (1, tokens, 384), (384, 16), (1, tokens, 16), (1, tokens, 16), (384,))
        inputs = [torch.randn(shape, device=args.device) for shape in shapes]
        inputs[1] -= 3
        inputs[2] = -inputs[2].exp()
        inputs = [x.requires_grad_() for x in inputs]
        seconds, grads = [], []
        for scan in (selective_scan, step_by_step):
            times = []
            for _ in range(args.repetitions + 1):
                start = time.process_time() if args.device == "cpu" else time.perf_counter()
                result = torch.autograd.grad(scan(*inputs).square().mean(), inputs)
                args.device == "cpu" or torch.cuda.synchronize()
                now = time.process_time() if args.device == "cpu" else time.perf_counter()
                times.append(now - start)
            seconds.append(min(times[1:]))
            grads.append(result)
        difference = max(((x - y).abs().max() / y.abs().max()).item() for x, y in zip(*grads))
        rows.append([tokens, *(1e3 * x for x in seconds), seconds[1] / seconds[0], f"{difference:.1e}"])
    print(f"\none scan, forward and backward; {machine(args.device)}\n")
    header = ["tokens", "ours, ms", "step by step, ms", "times as fast", "largest relative difference of a gradient"]
    print(table(header, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048, 8192, 22016])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--once_beyond", type=int, default=4096, help="tokens: longer ones are run once, and not warm")
    parser.add_argument("--scan", action="store_true", help="the scan alone")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*json.loads(args.one), args)))
    elif args.scan:
        compare_scans(args)
    else:
        compare_models(args)


if __name__ == "__main__":
    main()

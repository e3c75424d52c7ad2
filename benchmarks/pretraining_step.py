#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Cost of an EAT pre-training step: against a plain implementation, and against clones, clip length and batch size.

python benchmarks/pretraining_step.py --threads 1         # a tiny network on the CPU, 1 to 2 minutes
python benchmarks/pretraining_step.py --size base --device cuda --dtype bf16 --compile --peak_tflops 989

The plain implementation below is written from the paper's equations: every clone is a clip of its own, with its own
pass of the teacher; its mask is drawn by Python loops; all patches go through the student, where the visible ones are
attended to and the masked ones are not. With the same weights and masks it gives the same losses and gradients; the
script checks it first. A step is forward, backward, AdamW and the teacher's update. Both use torch's fused attention.
"""

import argparse
import json
import random
from collections.abc import Callable
from contextlib import nullcontext

import torch
from timing import machine, median, table, take_turns
from torch import Tensor, nn
from torch.nn import functional as F

from hf_audio_ssl.models.eat import EatConfig, EatForPreTraining
from hf_audio_ssl.modules.masking import inverse_block_mask, num_visible
from hf_audio_ssl.modules.positional import sincos_table_2d

SIZES = {
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "decoder_hidden_size": 128,
        "decoder_num_layers": 3,
    },
    "base": {},
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "decoder_hidden_size": 1024,
        "decoder_num_layers": 3,
        "decoder_kernel_size": 5,
    },
}
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


# ------------------------------------------------------------------------------------------- the plain implementation
def plain_mask(rows: int, columns: int, config: EatConfig) -> list[bool]:
    """One inverse block mask of one clone, cell by cell (section 3.2); True = masked."""
    length, half = rows * columns, config.mask_block_size // 2
    wanted = int(length * (1 - config.mask_ratio))
    kept = set()
    for _ in range(int(length * ((1 - config.mask_ratio + config.mask_ratio_adjust) / config.mask_block_size**2))):
        row, column = divmod(random.randrange(length), columns)
        for i in range(row - half, row - half + config.mask_block_size):
            for j in range(column - half, column - half + config.mask_block_size):
                kept.add(min(max(i, 0), rows - 1) * columns + min(max(j, 0), columns - 1))
    if len(kept) > wanted:
        kept = set(random.sample(sorted(kept), wanted))
    else:
        kept |= set(random.sample([cell for cell in range(length) if cell not in kept], wanted - len(kept)))
    return [cell not in kept for cell in range(length)]


class PlainLayer(nn.Module):
    """A post-norm transformer layer. Returns its output, and the output of its feed-forward part."""

    def __init__(self, config: EatConfig):
        super().__init__()
        dim, self.heads = config.hidden_size, config.num_attention_heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.expand, self.contract = nn.Linear(dim, config.intermediate_size), nn.Linear(config.intermediate_size, dim)
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=config.layer_norm_eps) for _ in range(2))

    def forward(self, x: Tensor, attend: Tensor | None) -> tuple[Tensor, Tensor]:
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        x = self.norm1(x + self.output(mixed.transpose(1, 2).flatten(2)))
        change = self.contract(F.gelu(self.expand(x)))
        return self.norm2(x + change), change


class PlainEncoder(nn.Module):
    """Patches, positions, class token, layers; every token takes part, `attend` says which ones are seen."""

    def __init__(self, config: EatConfig):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.hidden_size))
        self.patches = nn.Conv2d(1, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(PlainLayer(config) for _ in range(config.num_hidden_layers))
        table = sincos_table_2d(config.max_time_patches, config.num_mel_patches, config.hidden_size)
        self.register_buffer("positions", table, persistent=False)

    def forward(self, spectrogram: Tensor, attend: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        x = self.patches(spectrogram[:, None]).flatten(2).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        x = self.norm(torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], dim=1))
        changes = []
        for layer in self.layers:
            x, change = layer(x, attend)
            changes.append(change[:, 1:])
        return x, changes


class PlainEat(nn.Module):
    """The pre-training objective, clone by clone.

    Args:
        one_teacher_pass: give the teacher each clip once instead of once per clone, to see what that alone saves.
    """

    def __init__(self, config: EatConfig, one_teacher_pass: bool = False):
        super().__init__()
        self.config, self.one_teacher_pass = config, one_teacher_pass
        self.student, self.teacher = PlainEncoder(config), PlainEncoder(config).requires_grad_(False)
        sizes = [config.hidden_size] + [config.decoder_hidden_size] * config.decoder_num_layers
        kernel = config.decoder_kernel_size
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, kernel, padding=kernel // 2, groups=config.decoder_groups)
            for a, b in zip(sizes, sizes[1:])
        )
        self.projection = nn.Linear(config.decoder_hidden_size, config.hidden_size)

    def counterparts(self, model: EatForPreTraining) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(mine, the model's) for every parameter: both register them in the same order."""
        pairs = [(self.student, model.eat), (self.teacher, model.teacher), (self.convolutions, model.decoder.layers)]
        pairs.append((self.projection, model.decoder.projection))
        return [pair for mine, theirs in pairs for pair in zip(mine.parameters(), theirs.parameters(), strict=True)]

    def load(self, model: EatForPreTraining) -> "PlainEat":
        with torch.no_grad():
            for mine, theirs in self.counterparts(model):
                mine.copy_(theirs)
        return self

    def decode(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        x = tokens.transpose(1, 2).unflatten(2, grid)
        for convolution in self.convolutions:
            y = convolution(x).permute(0, 2, 3, 1)
            y = F.gelu(F.layer_norm(y, y.shape[-1:])).permute(0, 3, 1, 2)
            x = x + y if x.shape == y.shape else y
        return self.projection(x.flatten(2).transpose(1, 2))

    @torch.no_grad()
    def targets(self, clips: Tensor) -> Tensor:
        _, changes = self.teacher(clips)
        normal = [F.instance_norm(change.float().transpose(1, 2)).transpose(1, 2) for change in changes]
        mean = sum(normal) / len(normal)
        return F.layer_norm(mean, mean.shape[-1:])

    def forward(
        self, clips: Tensor, masks: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(batch, frames, mels) -> frame loss and utterance loss; `masks` and `noise` are drawn unless given."""
        config = self.config
        grid = (clips.shape[1] // config.patch_size, config.num_mel_patches)
        if masks is None:
            masks = [plain_mask(*grid, config) for _ in range(len(clips) * config.num_clones)]
            masks = torch.tensor(masks, device=clips.device)
        copies = clips.repeat_interleave(config.num_clones, dim=0)

        attend = F.pad(~masks, (1, 0), value=True)[:, None, None]
        encoded, _ = self.student(copies, attend)
        summary, tokens = encoded[:, 0], encoded[:, 1:]
        if noise is None:
            noise = config.mask_noise_std * torch.randn_like(tokens)
        predictions = self.decode(torch.where(masks[..., None], noise.to(tokens.dtype), tokens), grid)

        if self.one_teacher_pass:
            targets = self.targets(clips).repeat_interleave(config.num_clones, dim=0)
        else:
            targets = self.targets(copies)
        scale = config.hidden_size**-0.5
        frame_loss = (predictions.float() - targets)[masks].square().sum(dim=-1).mean() * scale
        utterance_loss = (summary.float() - targets.mean(dim=1)).square().sum() * scale
        return config.frame_loss_weight * frame_loss, config.utterance_loss_weight * utterance_loss

    @torch.no_grad()
    def update_teacher(self, decay: float) -> None:
        for target, source in zip(self.teacher.parameters(), self.student.parameters()):
            target.mul_(decay).add_(source, alpha=1 - decay)


# ----------------------------------------------------------------------------------------------------------- measuring
def build(size: str, device: str) -> EatForPreTraining:
    torch.manual_seed(0)
    return EatForPreTraining(EatConfig(**SIZES[size])).to(device).train()


def spectrograms(batch: int, frames: int, device: str) -> Tensor:
    """Normalised log-mel values have about this spread; what they are does not change the cost."""
    return 0.5 * torch.randn(batch, frames, 128, generator=torch.Generator().manual_seed(batch)).to(device)


def check_same_step(model: EatForPreTraining, plain: PlainEat, clips: Tensor) -> tuple[float, float]:
    """Largest relative differences of the losses and of the parameters' gradients; float32, same masks and noise.

    Raises SystemExit where the losses differ by more than 1e-4 or a gradient by more than 1e-2.
    """
    config, device = model.config, clips.device
    grid = (clips.shape[1] // config.patch_size, config.num_mel_patches)
    masks = torch.tensor([plain_mask(*grid, config) for _ in range(len(clips) * config.num_clones)], device=device)
    noise = config.mask_noise_std * torch.randn(*masks.shape, config.hidden_size, device=device)
    out = model(clips, bool_masked_pos=masks, mask_noise=noise)
    ours, expected = (out.frame_loss, out.utterance_loss), plain(clips, masks, noise)
    loss = max(abs(a / b - 1).item() for a, b in zip(ours, expected))
    sum(ours).backward()
    sum(expected).backward()
    pairs = [(mine.grad, theirs.grad) for mine, theirs in plain.counterparts(model) if theirs.requires_grad]
    # the bias of the keys changes nothing: its gradient is rounding error, and is measured against all gradients
    floor = 1e-6 * torch.stack([theirs.norm() for _, theirs in pairs]).norm()
    gradient = max(((mine - theirs).norm() / (theirs.norm() + floor)).item() for mine, theirs in pairs)
    if loss > 1e-4 or gradient > 1e-2:
        raise SystemExit(f"the plain step differs from ours: losses by {loss:.1e}, gradients by {gradient:.1e}")
    model.zero_grad()
    plain.zero_grad()
    return loss, gradient


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, betas=(0.9, 0.95))


def make_step(
    losses: Callable[[], Tensor], optimizer: torch.optim.Optimizer, update_teacher: Callable[[], None], args
) -> Callable[[], None]:
    """One whole training step as a function without arguments."""
    dtype = DTYPES[args.dtype]
    precision = torch.autocast(torch.device(args.device).type, dtype) if dtype else nullcontext()

    def step() -> None:
        with precision:
            loss = losses()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        update_teacher()

    return step


def flops(config: EatConfig, batch: int, frames: int) -> float:
    """Floating-point operations of the matrix products and convolutions of one step (a multiply-add counts 2).

    Backward costs twice the forward pass; the teacher runs forward only; masked patches skip the student's layers.
    """
    dim, inner = config.hidden_size, config.decoder_hidden_size
    patches = frames // config.patch_size * config.num_mel_patches
    visible = num_visible(patches, config.mask_ratio)

    def encoder(tokens: int) -> float:
        per_layer = 2 * tokens * (4 * dim**2 + 2 * dim * config.intermediate_size) + 4 * tokens**2 * dim
        return config.num_hidden_layers * per_layer

    kernel = config.decoder_kernel_size**2 / config.decoder_groups
    convolutions = 2 * patches * kernel * (dim * inner + (config.decoder_num_layers - 1) * inner**2)
    decoder = convolutions + 2 * patches * inner * dim
    embedding = 2 * patches * config.patch_size**2 * dim
    student = config.num_clones * (encoder(visible + 1) + decoder) + embedding
    return batch * (3 * student + encoder(patches + 1) + embedding)


def against_plain(args) -> list[dict]:
    """The step and its mask generator, ours and plain, at `--batch_size`, `--frames`, `--num_clones`."""
    model = build(args.size, args.device)
    config = model.config
    config.num_clones = args.num_clones
    clips = spectrograms(args.batch_size, args.frames, args.device)
    plain = PlainEat(config).to(args.device).load(model)
    differences = check_same_step(model, plain, clips[:1])
    shared = PlainEat(config, one_teacher_pass=True).to(args.device).load(model)

    def follow():
        model.after_optimizer_step(1)

    optimizer = adamw(model)
    steps = {
        "plain": make_step(lambda: sum(plain(clips)), adamw(plain), lambda: plain.update_teacher(0.999), args),
        "plain, one teacher pass per clip": make_step(
            lambda: sum(shared(clips)), adamw(shared), lambda: shared.update_teacher(0.999), args
        ),
        "ours": make_step(lambda: model(clips).loss, optimizer, follow, args),
    }
    if args.compile:
        compiled = torch.compile(model, dynamic=False)
        steps["ours, compiled"] = make_step(lambda: compiled(clips).loss, optimizer, follow, args)
    grid = (args.frames // config.patch_size, config.num_mel_patches)
    masks = args.batch_size * config.num_clones
    options = {"block_size": config.mask_block_size, "adjust": config.mask_ratio_adjust, "device": args.device}
    draws = {
        "masks alone: plain": lambda: torch.tensor([plain_mask(*grid, config) for _ in range(masks)]).to(args.device),
        "masks alone: ours": lambda: inverse_block_mask(masks, grid, config.mask_ratio, **options),
    }
    results = []
    for group, calls in (("step", steps), ("masks", draws)):
        times = take_turns(calls, args.repetitions, args.warm_up, args.device)
        first = median(next(iter(times.values())))
        for name, values in times.items():
            time = median(values)
            results.append(
                {
                    "name": name,
                    "milliseconds": time and 1000 * time,
                    "clips_per_second": args.batch_size / time if time and group == "step" else None,
                    "speedup": first / time if first and time else None,
                    "relative_differences": dict(zip(("losses", "gradients"), differences)),
                }
            )
    return results


def sweep(args, settings: list[tuple[int, int, int]]) -> list[dict]:
    """Our step at each (clones, frames, batch), with and without compilation, in turns."""
    model = build(args.size, args.device)
    optimized = {"eager": model}
    if args.compile:
        # one graph a setting: every shape and number of clones is compiled for itself
        torch._dynamo.reset()
        torch._dynamo.config.recompile_limit = 4 * len(settings)
        optimized["compiled"] = torch.compile(model, dynamic=False)
    optimizer, peaks, calls = adamw(model), {}, {}
    on_gpu = args.device.startswith("cuda")

    def call(setting: tuple[int, int, int], mode: str) -> Callable[[], None]:
        clones, frames, batch = setting
        clips = spectrograms(batch, frames, args.device)
        step = make_step(lambda: optimized[mode](clips).loss, optimizer, lambda: model.after_optimizer_step(1), args)

        def run() -> None:
            model.config.num_clones = clones
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            step()
            if on_gpu:
                peaks[setting, mode] = torch.cuda.max_memory_allocated() / 2**30

        return run

    for mode in optimized:
        for setting in settings:
            calls[setting, mode] = call(setting, mode)
    times = take_turns(calls, args.repetitions, args.warm_up, args.device)
    results = []
    for (setting, mode), values in times.items():
        clones, frames, batch = setting
        model.config.num_clones = clones
        time = median(values)
        rate = flops(model.config, batch, frames) / time / 1e12 if time else None
        results.append(
            {
                "num_clones": clones,
                "frames": frames,
                "batch_size": batch,
                "mode": mode,
                "milliseconds": time and 1000 * time,
                "clips_per_second": batch / time if time else None,
                "masks_per_second": batch * clones / time if time else None,
                "tflops": rate,
                "share_of_peak": rate / args.peak_tflops if rate and args.peak_tflops else None,
                "peak_memory_gib": peaks.get((setting, mode)) if time else None,
            }
        )
    return results


def print_tables(args, results: dict[str, list[dict]]) -> None:
    print(f"{machine(args.device)}; EAT {args.size}, {args.dtype}; medians of {args.repetitions} alternating runs")
    if "step" in results:
        rows = results["step"]
        same = ", ".join(f"same {name} within {value:.0e}" for name, value in rows[0]["relative_differences"].items())
        print(
            f"\nOne step of {args.batch_size} clips of {args.frames} frames, {args.num_clones} masks each ({same})\n"
        )
        cells = [(row["name"], row["milliseconds"], row["clips_per_second"], row["speedup"]) for row in rows]
        print(table(["", "ms", "clips a second", "times as fast as plain"], cells))
    columns = {
        "masks per clip": "num_clones",
        "frames": "frames",
        "batch": "batch_size",
        "mode": "mode",
        "ms a step": "milliseconds",
        "clips a second": "clips_per_second",
        "masks a second": "masks_per_second",
        "TFLOP/s": "tflops",
        "share of peak": "share_of_peak",
        "peak memory, GiB": "peak_memory_gib",
    }
    for name, rows in results.items():
        if name == "step":
            continue
        used = [title for title, key in columns.items() if any(row[key] is not None for row in rows)]
        print(f"\nOur step against {name}\n")
        print(table(used, [[row[columns[title]] for title in used] for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="tiny", help="network (default tiny: width 128, 4 layers)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="autocast to this type (default fp32: none)")
    parser.add_argument("--compile", action="store_true", help="measure our step with torch.compile as well")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--batch_size", type=int, default=2, help="clips a step where the batch does not vary")
    parser.add_argument("--frames", type=int, default=1024, help="frames a clip where they do not vary")
    parser.add_argument("--num_clones", type=int, default=16, help="masks per clip where they do not vary")
    parser.add_argument("--clones", type=int, nargs="+", default=[1, 4, 16], help="masks per clip to go through")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024], help="frames to go through")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4], help="batch sizes to go through")
    parser.add_argument(
        "--tables", nargs="+", choices=["step", "clones", "length", "batch"], help="what to measure (default: all)"
    )
    parser.add_argument("--repetitions", type=int, default=5, help="rounds in which the contestants take turns")
    parser.add_argument("--warm_up", type=int, default=1, help="rounds before them that do not count")
    parser.add_argument("--peak_tflops", type=float, help="peak of the device in --dtype, for the share of it")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    random.seed(0)

    settings = {
        "clones": [(clones, args.frames, args.batch_size) for clones in args.clones],
        "length": [(args.num_clones, frames, args.batch_size) for frames in args.lengths],
        "batch": [(args.num_clones, args.frames, batch) for batch in args.batches],
    }
    results = {}
    for name in args.tables or ["step", *settings]:
        results[name] = against_plain(args) if name == "step" else sweep(args, settings[name])
    if args.json:
        print(json.dumps({"machine": machine(args.device), "settings": vars(args), "results": results}))
    else:
        print_tables(args, results)


if __name__ == "__main__":
    main()

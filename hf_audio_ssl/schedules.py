# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Schedules as pure functions `step -> float`: nothing to save, nothing to restore, the same in any process.

`step` counts from 0: the value returned for step `s` is the one in force during the update that turns `s` completed
updates into `s + 1`.
"""

import math
from collections.abc import Callable


def _fraction(step: int, start: int, end: int) -> float:
    """How far `step` has come from `start` (0.0) to `end` (1.0), clamped at both ends."""
    return 1.0 if step >= end else max(0.0, (step - start) / (end - start))


def linear_anneal(step: int, start: float, end: float, steps: int) -> float:
    """From `start` to `end` in a straight line over `steps`, constant afterwards.

    The decay of an EMA teacher (data2vec section 3.3, EAT section 3.2) and Gumbel or DINO temperatures follow it.
    """
    return start + (end - start) * _fraction(step, 0, steps)


def cosine_anneal(step: int, start: float, end: float, steps: int) -> float:
    """From `start` to `end` along half a cosine over `steps` (BYOL's teacher momentum), constant afterwards."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * _fraction(step, 0, steps)))


def exponential_anneal(step: int, start: float, end: float, factor: float) -> float:
    """`start * factor**step`, not past `end` (the Gumbel temperature of wav2vec 2.0, section 4.2)."""
    value = start * factor**step
    return max(end, value) if factor < 1.0 else min(end, value)


def warmup(step: int, steps: int) -> float:
    """Factor that grows from 0 at step 0 in a straight line to 1 at `steps`."""
    return _fraction(step, 0, steps)


def constant(step: int, *, peak: float, warmup_steps: int = 0) -> float:
    """Warm-up, then `peak` for ever."""
    return peak * warmup(step, warmup_steps)


def linear(step: int, *, peak: float, total_steps: int, warmup_steps: int = 0, floor: float = 0.0) -> float:
    """Warm-up to `peak`, then a straight line that reaches `floor` at `total_steps`."""
    if step < warmup_steps:
        return peak * warmup(step, warmup_steps)
    return linear_anneal(step - warmup_steps, peak, floor, total_steps - warmup_steps)


def cosine(step: int, *, peak: float, total_steps: int, warmup_steps: int = 0, floor: float = 0.0) -> float:
    """Warm-up to `peak`, then half a cosine that reaches `floor` at `total_steps`."""
    if step < warmup_steps:
        return peak * warmup(step, warmup_steps)
    return cosine_anneal(step - warmup_steps, peak, floor, total_steps - warmup_steps)


def inverse_sqrt(step: int, *, peak: float, warmup_steps: int, floor: float = 0.0) -> float:
    """Warm-up to `peak`, then `peak * sqrt(warmup_steps / step)`, not below `floor` (Transformer, section 5.3)."""
    if step < warmup_steps:
        return peak * warmup(step, warmup_steps)
    return max(floor, peak * math.sqrt(max(1, warmup_steps) / max(1, step)))


def tri_stage(
    step: int,
    *,
    peak: float,
    total_steps: int,
    warmup_steps: int,
    hold_steps: int,
    floor: float = 0.0,
) -> float:
    """Linear warm-up to `peak`, hold, decay to `floor` at `total_steps` (wav2vec 2.0, section 4.3).

    The decay is exponential, as in fairseq, where `floor` allows it, and linear to a `floor` of 0.
    """
    if step < warmup_steps:
        return peak * warmup(step, warmup_steps)
    done = _fraction(step, warmup_steps + hold_steps, total_steps) if step >= warmup_steps + hold_steps else 0.0
    if floor > 0.0:
        return peak * math.exp(math.log(floor / peak) * done)
    return peak * (1.0 - done)


LEARNING_RATE_SCHEDULES = ("cosine", "linear", "constant", "inverse_sqrt", "tri_stage")


def learning_rate(
    name: str, *, peak: float, total_steps: int, warmup_steps: int = 0, floor: float = 0.0, hold_steps: int = 0
) -> Callable[[int], float]:
    """The learning-rate schedule called `name` as a function of the step. Raises `ValueError` for an unknown name."""
    span = {"peak": peak, "total_steps": total_steps, "warmup_steps": warmup_steps, "floor": floor}
    match name:
        case "cosine":
            return lambda step: cosine(step, **span)
        case "linear":
            return lambda step: linear(step, **span)
        case "constant":
            return lambda step: constant(step, peak=peak, warmup_steps=warmup_steps)
        case "inverse_sqrt":
            return lambda step: inverse_sqrt(step, peak=peak, warmup_steps=warmup_steps, floor=floor)
        case "tri_stage":
            return lambda step: tri_stage(step, hold_steps=hold_steps, **span)
    raise ValueError(f"lr_schedule={name!r}: expected one of {', '.join(LEARNING_RATE_SCHEDULES)}")

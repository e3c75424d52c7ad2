# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Teachers that follow their student as an exponential moving average."""

import copy

import torch
from torch import nn


def make_teacher(student: nn.Module) -> nn.Module:
    """A copy of `student` that takes no gradients and stays in evaluation mode until told otherwise.

    It shares the student's config: `set_attn_implementation` reaches only models, and a teacher may be a part of one.
    """
    shared = {id(module.config): module.config for module in student.modules() if hasattr(module, "config")}
    return copy.deepcopy(student, shared).requires_grad_(False).eval()


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """teacher <- decay * teacher + (1 - decay) * student for all parameters in one fused operation; buffers are
    copied.
    """
    targets, sources = list(teacher.parameters()), [p.detach() for p in student.parameters()]
    sources = [source.to(target.dtype) for source, target in zip(sources, targets)]
    torch._foreach_lerp_(targets, sources, 1 - decay)
    buffers = list(teacher.buffers())
    if buffers:
        torch._foreach_copy_(buffers, list(student.buffers()))

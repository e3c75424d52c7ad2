# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""AdamW over the parameters that learn, with weight decay only where it belongs."""

import torch
from torch import nn

from hf_audio_ssl.training.arguments import PretrainingArguments


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups of trainable parameters: with decay, and without (biases and 1-d parameters: norms, gains).

    Parameters without `requires_grad`, such as those of an EMA teacher, are in neither. An empty group is left out.
    """
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim <= 1 or name.endswith("bias") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, args: PretrainingArguments, device: torch.device) -> torch.optim.Optimizer:
    """AdamW for `model`, fused where torch can. Raises `ValueError` if no parameter requires a gradient."""
    groups = parameter_groups(model, args.weight_decay)
    if not groups:
        raise ValueError(f"model={type(model).__name__}: no parameter requires a gradient, there is nothing to train")
    return torch.optim.AdamW(
        groups,
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        fused=device.type in ("cpu", "cuda"),
    )

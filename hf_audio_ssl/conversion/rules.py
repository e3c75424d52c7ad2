# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Renaming rules: data that turns an original state dict into ours, and reads our tensors back in its layout."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_audio_ssl.conversion.reading import InertRecord


class ConversionError(ValueError):
    """A checkpoint that is not of this method, or not whole."""


@dataclass(frozen=True)
class Rule:
    """Original keys that match `pattern` (whole) become `targets` (with \\1-style references), split evenly along
    `dim`.

    No targets: the key is dropped, and `reason` goes into the report.
    """

    pattern: str
    targets: tuple[str, ...] = ()
    dim: int = 0
    reason: str = ""


def rename(pattern: str, target: str) -> Rule:
    return Rule(pattern, (target,))


def split(pattern: str, *targets: str, dim: int = 0) -> Rule:
    """E.g. a fused qkv projection into three."""
    return Rule(pattern, targets, dim)


def drop(pattern: str, reason: str) -> Rule:
    return Rule(pattern, reason=reason)


def flatten_state(tree: Mapping, prefix: str = "") -> dict[str, Tensor]:
    """A state dict that holds dictionaries (fairseq's EMA teachers) as one, keys joined by dots."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten_state(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def original_state(checkpoint: Mapping) -> dict[str, Tensor]:
    """The state dict of a file that was read, flat: what lies under "model", or else all of it.

    Raises:
        ConversionError: it is no dictionary, or holds something else than tensors under names.
    """
    state = checkpoint.get("model", checkpoint)
    if not isinstance(state, Mapping) or isinstance(state, InertRecord):
        raise ConversionError(f"the checkpoint holds {state!r:.80} for a model, expected a dictionary of tensors")
    state = flatten_state(state)
    strangers = [f"{key}: {value!r:.40}" for key, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ConversionError(
            f"the checkpoint's model holds {len(strangers)} entries that are no tensors, expected none: "
            + ", ".join(strangers[:5])
        )
    return state


def _match(key: str, rules: Sequence[Rule]) -> tuple[Rule, list[str]]:
    for rule in rules:
        if match := re.fullmatch(rule.pattern, key):
            return rule, [match.expand(target) for target in rule.targets]
    raise ConversionError(f"key {key!r} is not one of this method's")


def convert_state_dict(state: Mapping[str, Tensor], rules: Sequence[Rule]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The renamed state dict, and the dropped keys with their reasons.

    Raises:
        ConversionError: lists every key that no rule consumes and every name that two keys claim.
    """
    converted, dropped, problems = {}, {}, []
    for key, tensor in state.items():
        try:
            rule, targets = _match(key, rules)
        except ConversionError:
            problems.append(f"left over: {key}")
            continue
        if not targets:
            dropped[key] = rule.reason
        for target, part in zip(targets, tensor.chunk(len(targets), rule.dim) if len(targets) > 1 else [tensor]):
            if target in converted:
                problems.append(f"claimed twice: {target} (by {key})")
            converted[target] = part.clone()
    if problems:
        raise ConversionError("the checkpoint does not fit this method:\n  " + "\n  ".join(problems))
    return converted, dropped


def original_tensor(key: str, rules: Sequence[Rule], lookup: Callable[[str], Tensor]) -> Tensor:
    """The original's tensor `key`, put together from ours: weights, gradients, whatever `lookup(our name)` returns."""
    rule, targets = _match(key, rules)
    parts = [lookup(target) for target in targets]
    return torch.cat(parts, rule.dim) if len(parts) > 1 else parts[0]


def load_converted(model, state: dict[str, Tensor]) -> None:
    """Load `state` into `model`, whole. Raises `ConversionError` with every missing, left-over or misshapen tensor."""
    own = model.state_dict()
    problems = [f"missing: {name}" for name in own.keys() - state.keys()]
    problems += [f"left over: {name}" for name in state.keys() - own.keys()]
    problems += [
        f"shape of {name}: got {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    if problems:
        raise ConversionError("the checkpoint does not fit this model:\n  " + "\n  ".join(sorted(problems)))
    model.load_state_dict(state)

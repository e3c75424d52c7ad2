#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Converts DinoSR checkpoints in the authors' fairseq layout (pre-trained).

python conversion_scripts/convert_dinosr.py --checkpoint dinosr.ckpt --output dinosr-base
"""

import ast
import re

import torch
from torch import Tensor

from hf_audio_ssl import DinoSrConfig, DinoSrFeatureExtractor, DinoSrForPreTraining
from hf_audio_ssl.command_line import conversion_command
from hf_audio_ssl.conversion import (
    ConversionError,
    convert_state_dict,
    drop,
    load_converted,
    original_state,
    original_tensor,
    rename,
)


def encoder_rules(source: str, target: str) -> list:
    """Rules of the transformer, which the teacher shares."""
    attention, layer = rf"{source}layers\.(\d+)\.self_attn\.", rf"{target}layers.\1"
    return [
        rename(rf"{source}pos_conv\.(\d+)\.0\.(weight|bias)", rf"{target}pos_conv_embed.layers.\1.conv.\2"),
        rename(rf"{source}layer_norm\.(weight|bias)", rf"{target}layer_norm.\1"),
        rename(rf"{attention}([qkv]|out)_proj\.(weight|bias)", rf"{layer}.attention.\2_proj.\3"),
        rename(rf"{source}layers\.(\d+)\.self_attn_layer_norm\.(weight|bias)", rf"{layer}.layer_norm.\2"),
        rename(rf"{source}layers\.(\d+)\.fc1\.(weight|bias)", rf"{layer}.feed_forward.intermediate_dense.\2"),
        rename(rf"{source}layers\.(\d+)\.fc2\.(weight|bias)", rf"{layer}.feed_forward.output_dense.\2"),
        rename(rf"{source}layers\.(\d+)\.final_layer_norm\.(weight|bias)", rf"{layer}.final_layer_norm.\2"),
    ]


CONVOLUTION, PROJECTION = "dinosr.feature_extractor.conv_layers", "dinosr.feature_projection"
RULES = [
    rename(r"feature_extractor\.conv_layers\.(\d+)\.0\.(weight|bias)", rf"{CONVOLUTION}.\1.conv.\2"),
    rename(r"feature_extractor\.conv_layers\.(\d+)\.2\.1\.(weight|bias)", rf"{CONVOLUTION}.\1.layer_norm.\2"),
    rename(r"layer_norm\.(weight|bias)", rf"{PROJECTION}.layer_norm.\1"),
    rename(r"post_extract_proj\.(weight|bias)", rf"{PROJECTION}.projection.\1"),
    rename(r"mask_emb", "dinosr.masked_spec_embed"),
    *encoder_rules(r"encoder\.", "dinosr.encoder."),
    *encoder_rules(r"_ema\.", "teacher."),
    rename(r"heads\.(\d+)\.(weight|bias)", r"heads.\1.\2"),
    # made by `stack_codebooks`
    rename(r"_codebook", "codebook.sums"),
    rename(r"_codebook_cnts", "codebook.counts"),
    drop(r"_pre_encoder_(cnn|ln|proj)\..*", "a copy of the convolutions and projection, for a teacher that is frozen"),
]


def stack_codebooks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original keeps a tensor for each codebook; ours are one. Raises `ConversionError` if one is left out."""
    state = dict(state)
    for name in ("_codebook", "_codebook_cnts"):
        numbers = sorted(int(match[1]) for key in state if (match := re.fullmatch(rf"{name}(\d+)", key)))
        if numbers != list(range(len(numbers))):
            raise ConversionError(f"{name}: the checkpoint holds numbers {numbers}, expected all from 0")
        if numbers:
            state[name] = torch.stack([state.pop(f"{name}{number}").float() for number in numbers])
    return state


def convolution_layers(text: str) -> list[tuple[int, int, int]]:
    """[(channels, kernel, stride), ...] from an expression like "[(512,10,5)] + [(512,3,2)] * 4", not executed."""

    def value(node):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return value(node.left) * value(node.right)
        return ast.literal_eval(node)

    try:
        layers = value(ast.parse(text, mode="eval").body)
        return [(int(channels), int(kernel), int(stride)) for channels, kernel, stride in layers]
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConversionError(
            f"conv_feature_layers: got {text!r}, expected [(channels, kernel, stride), ...]"
        ) from error


def read(checkpoint: dict, original_config: dict | None) -> tuple[dict[str, Tensor], dict]:
    """State dict and the model's settings.

    Raises:
        ConversionError: not a checkpoint of DinoSR.
    """
    state = original_state(checkpoint)
    settings = original_config or checkpoint.get("cfg") or {}
    if "heads.0.weight" not in state or "_codebook0" not in state:
        raise ConversionError(
            f"no DinoSR checkpoint: expected the keys heads.0.weight and _codebook0, got {sorted(state)[:5]}"
        )
    return stack_codebooks(state), settings.get("model") or settings


def infer_config(state: dict[str, Tensor], settings: dict) -> DinoSrConfig:
    """Sizes come from the tensors; what they do not show from the settings, or else from the paper's model."""
    refuse_variants(settings)

    def count(pattern: str) -> int:
        return len({match[1] for key in state if (match := re.match(pattern, key))})

    kernels = [
        state[f"feature_extractor.conv_layers.{i}.0.weight"]
        for i in range(count(r"feature_extractor\.conv_layers\.(\d+)\."))
    ]
    default = DinoSrConfig()
    strides = default.conv_stride
    if settings.get("conv_feature_layers"):
        strides = [stride for _, _, stride in convolution_layers(settings["conv_feature_layers"])]
    position = state["encoder.pos_conv.0.0.weight"]
    num_codebooks, codebook_size, hidden_size = state["_codebook"].shape
    fields = {
        "hidden_size": hidden_size,
        "num_hidden_layers": count(r"encoder\.layers\.(\d+)\."),
        # head width 64 in the released model
        "num_attention_heads": settings.get("encoder_attention_heads") or max(hidden_size // 64, 1),
        "intermediate_size": state["encoder.layers.0.fc1.weight"].shape[0],
        "hidden_act": settings.get("activation_fn", default.hidden_act),
        "conv_dim": [kernel.shape[0] for kernel in kernels],
        "conv_kernel": [kernel.shape[2] for kernel in kernels],
        "conv_stride": list(strides),
        "conv_bias": "feature_extractor.conv_layers.0.0.bias" in state,
        "num_conv_pos_embeddings": count(r"encoder\.pos_conv\.(\d+)\."),
        "conv_pos_kernel_size": position.shape[2],
        "num_conv_pos_embedding_groups": hidden_size // position.shape[1],
        "num_codebooks": num_codebooks,
        "codebook_size": codebook_size,
        # as the original, whatever padding does to a clip's last frames
        "mask_padding": False,
    }
    names = {
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "activation_dropout": "activation_dropout",
        "feat_proj_dropout": "dropout_input",
        "layerdrop": "encoder_layerdrop",
        "mask_prob": "mask_prob",
        "mask_length": "mask_length",
        "codebook_decay": "codebook_init_decay",
        "ema_decay": "ema_decay",
        "ema_end_decay": "ema_end_decay",
        "ema_anneal_steps": "ema_anneal_end_step",
        "freeze_teacher_step": "freeze_teacher_step",
    }
    fields |= {ours: settings[theirs] for ours, theirs in names.items() if theirs in settings}
    if fields.get("freeze_teacher_step", 1) <= 0:  # never
        fields["freeze_teacher_step"] = None
    return DinoSrConfig(**fields)


def refuse_variants(settings: dict) -> None:
    """The original's code has options that the paper's model does not use, nor ours. Raises `ConversionError`."""
    expected = {
        "extractor_mode": "layer_norm",
        "layer_norm_first": False,
        "layer_type": "transformer",
        "discrete": True,
        "instance_norm_target_layer": True,
        "layer_norm_target_layer": False,
        "batch_norm_target_layer": False,
        "group_norm_target_layer": False,
        "instance_norm_targets": False,
        "layer_norm_targets": False,
        "ema_transformer_only": True,
        "ema_layers_only": True,
        "codebook_end_decay_step": 0,
    }
    for name, value in expected.items():
        if settings.get(name, value) != value:
            raise ConversionError(f"{name}={settings[name]!r}: only models with {value!r} can be converted")


def convert(checkpoint: dict, original_config: dict | None = None) -> DinoSrForPreTraining:
    """The pre-training model that the checkpoint holds."""
    state, settings = read(checkpoint, original_config)
    converted, dropped = convert_state_dict(state, RULES)
    model = DinoSrForPreTraining(infer_config(state, settings))
    if not any(key.startswith("teacher.") for key in converted):
        # saved without a teacher: it restarts from the student
        source = "dinosr.encoder."
        converted |= {
            "teacher." + key.removeprefix(source): value for key, value in converted.items() if key.startswith(source)
        }
    load_converted(model, converted)
    model.conversion_report = dropped
    return model.eval()


def feature_extractor(checkpoint: dict, original_config: dict | None = None) -> DinoSrFeatureExtractor:
    state, settings = read(checkpoint, original_config)
    task = (original_config or checkpoint.get("cfg") or {}).get("task") or {}
    return DinoSrFeatureExtractor(
        sampling_rate=task.get("sample_rate") or 16000,
        max_length=task.get("max_sample_size") or 320000,
        do_normalize=task.get("normalize", True),
        min_length=infer_config(state, settings).receptive_field,
    )


# -- parity -----------------------------------------------------------------------------------------------------------


def parity_outputs(case) -> dict[str, Tensor]:
    return globals()[f"{case.kind}_outputs"](case)


def features_outputs(case) -> dict[str, Tensor]:
    config = case.original_config
    extractor = DinoSrFeatureExtractor(
        sampling_rate=config["sample_rate"], do_normalize=config["normalize"], min_length=1
    )
    waves = case.inputs["waveform"]
    lengths = (
        case.inputs["attention_mask"].sum(dim=1) if "attention_mask" in case.inputs else [waves.shape[1]] * len(waves)
    )
    clips = [wave[:length] for wave, length in zip(waves, lengths)]
    features = extractor(clips, sampling_rate=config["sample_rate"], pad_to_multiple_of=waves.shape[1])
    return {"input_values": features["input_values"]}


@torch.no_grad()
def encoder_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config).base_model
    values, attention_mask = case.inputs["input_values"], case.inputs.get("attention_mask")
    outputs = model(values, attention_mask, output_hidden_states=True, output_ffn_states=True)
    convolved = model.feature_extractor(values).transpose(1, 2)
    results = {
        "last_hidden_state": outputs.last_hidden_state,
        "extract_features": model.feature_projection(convolved)[1],
    }
    for k in case.wanted_after("hidden_states."):
        results[f"hidden_states.{k}"] = outputs.hidden_states[int(k)]
    for k in case.wanted_after("layer_results."):
        results[f"layer_results.{k}"] = outputs.ffn_states[int(k) - 1]
    if attention_mask is not None:
        frame_mask = model.frame_mask(attention_mask)
        # the case zeroes what stands at padded frames
        results = {name: value * frame_mask[..., None] for name, value in results.items()}
        results["padding_mask"] = ~frame_mask
    return results


def pretraining_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config).train()
    attention_mask, masked = case.inputs.get("attention_mask"), case.inputs["bool_masked_pos"].bool()
    outputs = model(case.inputs["input_values"], attention_mask, bool_masked_pos=masked)
    outputs.loss.backward()
    results = {
        "loss": outputs.loss,
        "sample_size": masked.sum(),
        "target_codes": outputs.targets.transpose(0, 1)[:, masked],
        **case.gradients(model, RULES),
    }
    step = case.original_config["num_updates"]
    results["ema_decay"] = torch.tensor(model.ema_decay_at(step))
    model.after_optimizer_step(step)
    for kind, tensor in (("codebook", model.codebook.sums), ("codebook_counts", model.codebook.counts)):
        for k in case.wanted_after(f"{kind}."):
            results[f"{kind}.{k}"] = tensor[int(k)]
    for key in case.wanted_after("ema."):
        results[f"ema.{key}"] = original_tensor("_ema." + key, RULES, model.get_parameter)
    return results


class TimeFirst(torch.nn.Module):
    """A linear layer on (batch, time, dim) that torch computes in the order of the original's (time, batch, dim)."""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.transpose(0, 1)).transpose(0, 1)


@torch.no_grad()
def tokenizer_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config)
    # Targets are normalised, which amplifies rounding in channels that hardly vary: the original's own rounding error
    # is beyond the tolerance. Its first layer multiplies a transposed, frozen input, for which torch takes another
    # kernel; with the same kernel the numbers are the same to the last bit.
    attention = model.teacher.layers[0].attention
    for name in ("q_proj", "k_proj", "v_proj"):
        setattr(attention, name, TimeFirst(getattr(attention, name)))
    values, attention_mask = case.inputs["input_values"], case.inputs.get("attention_mask")
    frame_mask = model.dinosr.frame_mask(attention_mask)
    return {
        "codes": model.tokenize(values, attention_mask).transpose(0, 1),
        "targets": model.make_targets(model.dinosr.project(values), frame_mask),
    }


if __name__ == "__main__":
    print("wrote", conversion_command(convert, feature_extractor, description=__doc__))

#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Converts SSAMBA checkpoints: state dicts as the authors save them, pre-trained (`ssamba_base_400.pth`) or tuned.

    python conversion_scripts/convert_ssamba.py --checkpoint ssamba_base_400.pth --output ssamba-base

The file does not tell whether its layers run in pairs; --original-config (JSON with the names of the authors'
command line, such as `if_bidirectional`) does, and without it they do, as in the authors' pre-training. If the file is
pre-trained and the JSON has another `input_tdim` or stride, the encoder alone is written with its table of positions
fitted to that grid, as the authors' fine-tuning does.
"""

import re

import torch
from torch import Tensor, nn

from hf_audio_ssl import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForPreTraining,
    SsambaModel,
)
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

SPACES = {"forward_space": ("", "A_log"), "backward_space": ("_b", "A_b_log")}


def encoder_rules(depth: int, bidirectional: bool) -> list:
    """Rules of the encoder; a pair of the original's layers is one of ours."""
    rules = [
        rename(r"v\.patch_embed\.proj\.(weight|bias)", r"ssamba.embeddings.patch_embedding.projection.\1"),
        rename(r"v\.cls_token", "ssamba.embeddings.cls_token"),
        rename(r"v\.pos_embed", "ssamba.embeddings.pos_embed"),
        rename(r"v\.norm_f\.(weight|bias)", r"ssamba.norm.\1"),
        drop(r"v\.head\.(weight|bias)", "the classifier of Vim's constructor, which SSAMBA never calls"),
    ]
    for n in range(depth):
        source, target = rf"v\.layers\.{n}\.", f"ssamba.layers.{n}.blocks.0."
        if bidirectional:
            target = f"ssamba.layers.{n // 2}.blocks.{n % 2}."
            if n == depth - 1 and n % 2 == 0:
                rules.append(drop(source + ".*", "the last layer of an odd number has no partner and is never run"))
                continue
        mixer = source + r"mixer\."
        rules += [
            rename(source + r"norm\.(weight|bias)", target + r"norm.\1"),
            rename(mixer + r"(in|out)_proj\.weight", target + r"mixer.\1_proj.weight"),
        ]
        for space, (suffix, a_log) in SPACES.items():
            rules += [
                rename(mixer + rf"(conv1d|x_proj|dt_proj){suffix}\.(weight|bias)", target + rf"mixer.{space}.\1.\2"),
                rename(mixer + a_log, target + f"mixer.{space}.A_log"),
                rename(mixer + "D" + suffix, target + f"mixer.{space}.D"),
            ]
    return rules


HEAD_RULES = [
    drop(r"p_input_[ft]dim", "the size of the input in pre-training: in the configuration"),
    rename("mask_embed", "mask_token"),
    rename(r"cpredlayer\.(\d)\.(weight|bias)", r"contrastive_head.\1.\2"),
    rename(r"gpredlayer\.(\d)\.(weight|bias)", r"generative_head.\1.\2"),
    rename(r"mlp_head\.0\.(weight|bias)", r"norm.\1"),
    rename(r"mlp_head\.1\.(weight|bias)", r"classifier.\1"),
]
PREFIX = "module."


def read(checkpoint: dict, original_config: dict | None) -> tuple[dict[str, Tensor], dict]:
    """State dict without the wrapper's prefix, and the settings, flat."""
    state = {key.removeprefix(PREFIX): tensor for key, tensor in original_state(checkpoint).items()}
    if "v.layers.0.mixer.A_b_log" not in state:
        raise ConversionError(
            "no SSAMBA checkpoint: expected a key module.v.layers.0.mixer.A_b_log (bimamba_type v2), got "
            f"{sorted(state)[:5]}"
        )
    settings = dict(original_config or {})
    settings = settings.get("vision_mamba_config", {}) | settings
    if any(settings.get(name) in (True, "true") for name in ("if_rope", "if_rope_residual", "use_double_cls_token")):
        raise ConversionError("rotary positions and two class tokens: not supported, the released models have neither")
    return state, settings


def flag(settings: dict, name: str, default: bool) -> bool:
    """A truth value; the authors' scripts write it as a word."""
    value = settings.get(name, default)
    return value.lower() == "true" if isinstance(value, str) else bool(value)


def infer_config(state: dict[str, Tensor], settings: dict) -> SsambaConfig:
    """Sizes come from the tensors; what they do not show from the settings, or else from the authors' pre-training."""
    hidden_size, _, patch_size, width = state["v.patch_embed.proj.weight"].shape
    if patch_size != width:
        raise ConversionError(f"patches of {patch_size} mel bins x {width} frames: only square ones are supported")
    depth = num_layers(state)
    channels, state_size = state["v.layers.0.mixer.A_log"].shape
    bidirectional = flag(settings, "if_bidirectional", True)
    fields = {
        "hidden_size": hidden_size,
        "num_hidden_layers": depth // 2 if bidirectional else depth,
        "bidirectional": bidirectional,
        "rms_norm": "v.norm_f.bias" not in state,
        "intermediate_size": channels,
        "state_size": state_size,
        "conv_kernel": state["v.layers.0.mixer.conv1d.weight"].shape[-1],
        "time_step_rank": state["v.layers.0.mixer.dt_proj.weight"].shape[1],
        "patch_size": patch_size,
        "layer_norm_eps": float(settings.get("norm_epsilon", 1e-5)),
        "drop_path_rate": float(settings.get("drop_path_rate", 0.1)),
        "hidden_dropout_prob": float(settings.get("drop_rate", 0.0)),
    }
    tokens = state["v.pos_embed"].shape[1] - 1
    if "p_input_fdim" in state:
        frequency_stride = time_stride = patch_size  # the authors' code refuses others in pre-training
        mel_bins = int(state["p_input_fdim"])
    else:
        mel_bins = settings.get("input_fdim", 128)
        frequency_stride, time_stride = finetuning_strides(settings, tokens, mel_bins, patch_size)
    rows = (mel_bins - patch_size) // frequency_stride + 1
    fields |= {"num_mel_bins": mel_bins, "frequency_stride": frequency_stride, "time_stride": time_stride}
    fields |= {"position_rows": rows, "position_columns": tokens // rows}
    if "mask_patch" in settings:
        fields["mask_ratio"] = settings["mask_patch"] / tokens
    if "mlp_head.1.weight" in state:
        fields["num_labels"] = state["mlp_head.1.weight"].shape[0]
        fields["classifier_pooling"] = "cls" if settings.get("task") == "ft_cls" else "mean"
        if loss := settings.get("loss"):
            fields["problem_type"] = f"{'multi' if loss == 'BCE' else 'single'}_label_classification"
    return SsambaConfig(**fields)


def num_layers(state: dict[str, Tensor]) -> int:
    return 1 + max(int(match[1]) for key in state if (match := re.match(r"v\.layers\.(\d+)\.", key)))


def finetuning_strides(settings: dict, tokens: int, mel_bins: int, patch_size: int) -> tuple[int, int]:
    """Strides of a fine-tuned file, which shows only how many positions there are: the authors took 10, and 16."""
    if "fstride" in settings:
        return settings["fstride"], settings["tstride"]
    fitting = [stride for stride in (10, patch_size) if tokens % ((mel_bins - patch_size) // stride + 1) == 0]
    if len(fitting) != 1:
        raise ConversionError(
            f"{tokens} positions fit patch strides {fitting or 'neither 10 nor the patch size'}: give fstride, "
            "tstride and input_fdim in --original-config"
        )
    return fitting[0], fitting[0]


def split_positions(converted: dict[str, Tensor], config: SsambaConfig) -> None:
    """The class token's position apart from the table of the patches."""
    positions = converted.pop("ssamba.embeddings.pos_embed")
    converted["ssamba.embeddings.cls_position"] = positions[:, :1].clone()
    table = positions[0, 1:].unflatten(0, (config.position_rows, config.position_columns))
    converted["ssamba.embeddings.positions"] = table.clone()


def convert(checkpoint: dict, original_config: dict | None = None):
    """The model that the checkpoint holds, `SsambaForPreTraining` or `SsambaForAudioClassification`; `SsambaModel` if
    it is pre-trained and the settings are those of fine-tuning on another grid.
    """
    state, settings = read(checkpoint, original_config)
    config = infer_config(state, settings)
    rules = [*encoder_rules(num_layers(state), config.bidirectional), *HEAD_RULES]
    converted, dropped = convert_state_dict(state, rules)
    split_positions(converted, config)
    if not flag(settings, "if_devide_out", True):
        # the sum of the directions instead of their mean: a factor of two, exact in floating point
        converted = {k: 2 * v if k.endswith("mixer.out_proj.weight") else v for k, v in converted.items()}
    model = (SsambaForAudioClassification if "classifier.weight" in converted else SsambaForPreTraining)(config)
    load_converted(model, converted)
    grid = finetuning_grid(config, settings)
    if isinstance(model, SsambaForPreTraining) and any(getattr(config, name) != value for name, value in grid.items()):
        model = fit_positions(model.ssamba, grid)
        heads = [key for key in state if re.match(r"mask_embed|[cg]predlayer", key)]
        dropped |= dict.fromkeys(heads, "of pre-training; the settings are those of fine-tuning on another grid")
    model.conversion_report = {PREFIX + key: reason for key, reason in dropped.items()}
    return model.eval()


def finetuning_grid(config: SsambaConfig, settings: dict) -> dict:
    """The geometry that the settings name, as fields of the configuration; a pre-trained model's own by default."""
    mel_bins = settings.get("input_fdim", config.num_mel_bins)
    strides = settings.get("fstride", config.patch_size), settings.get("tstride", config.patch_size)
    rows = (mel_bins - config.patch_size) // strides[0] + 1
    columns = config.position_columns
    if "input_tdim" in settings:
        columns = (settings["input_tdim"] - config.patch_size) // strides[1] + 1
    fields = {"num_mel_bins": mel_bins, "frequency_stride": strides[0], "time_stride": strides[1]}
    return fields | {"position_rows": rows, "position_columns": columns}


@torch.no_grad()
def fit_positions(encoder: SsambaModel, fields: dict) -> SsambaModel:
    """`encoder` on another grid, its table cut or interpolated as in the constructor of the authors' AMBAModel.

    There the end of the cut along frequency is taken from the time axis. That stops the original with an error, or
    makes no difference; so ours is the cut that was meant.
    """
    rows, columns = fields["position_rows"], fields["position_columns"]
    table = encoder.embeddings.positions.permute(2, 0, 1)[None]
    height, width = table.shape[2:]
    if columns < width:
        start = width // 2 - columns // 2
        table = table[..., start : start + columns]
    else:
        # eight rows, whatever the table has: theirs always had eight
        table = nn.functional.interpolate(table, (8, columns), mode="bilinear")
    if rows < height:
        start = height // 2 - rows // 2
        table = table[:, :, start : start + rows]
    else:
        table = nn.functional.interpolate(table, (rows, columns), mode="bilinear")
    model = SsambaModel(SsambaConfig.from_dict(encoder.config.to_dict() | fields))
    state = encoder.state_dict() | {"embeddings.positions": table[0].permute(1, 2, 0).contiguous()}
    load_converted(model, state)
    return model


def feature_extractor(checkpoint: dict, original_config: dict | None = None) -> SsambaFeatureExtractor:
    """The normalisation that the settings name, or that of the authors' pre-training."""
    state, settings = read(checkpoint, original_config)
    config = infer_config(state, settings)
    names = {"mean": "dataset_mean", "std": "dataset_std"}
    options = {ours: settings[theirs] for ours, theirs in names.items() if theirs in settings}
    length = settings.get("target_length") or settings.get("input_tdim") or int(state.get("p_input_tdim", 0))
    # without either: the least number of frames that has the table's columns
    length = length or (config.position_columns - 1) * config.time_stride + config.patch_size
    return SsambaFeatureExtractor(
        num_mel_bins=settings.get("input_fdim", config.num_mel_bins),
        max_length=length,
        min_frames=config.patch_size,
        **options,
    )


# -- parity -----------------------------------------------------------------------------------------------------------


def parity_outputs(case) -> dict[str, Tensor]:
    return globals()[f"{case.kind}_outputs"](case)


def features_outputs(case) -> dict[str, Tensor]:
    config = case.original_config
    extractor = SsambaFeatureExtractor(
        num_mel_bins=config["num_mel_bins"],
        max_length=config["target_length"],
        mean=config["dataset_mean"],
        std=config["dataset_std"],
    )
    return {"input_values": extractor(list(case.inputs["waveform"]), sampling_rate=16000)["input_values"]}


@torch.no_grad()
def encoder_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config)
    if isinstance(model, SsambaForPreTraining):
        # the original's encoder is its fine-tuning model, which fits a table of the right size too if it has no 8 rows
        model = fit_positions(model.ssamba, finetuning_grid(model.config, case.original_config)).eval()
    values = case.inputs["input_values"]
    outputs = model(values, output_hidden_states=True, output_block_states=True)
    results = {"last_hidden_state": outputs.last_hidden_state, "pooler_output": outputs.pooler_output}
    # theirs is the stream in two parts, not yet added up: what the layer's blocks found, and all before
    width = 2 if model.config.bidirectional else 1
    for k in map(int, case.wanted_after("hidden_states.")):
        results[f"hidden_states.{k}"] = sum(outputs.block_states[(k - 1) * width : k * width])
    for k in map(int, case.wanted_after("residual.")):
        results[f"residual.{k}"] = width * outputs.hidden_states[k - 1]
    table = model.embeddings.positions.flatten(0, 1)[None]
    results["pos_embed"] = torch.cat([model.embeddings.cls_position, table], dim=1)
    return {name: value for name, value in results.items() if name in case.wanted}


def pretraining_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config).train()
    outputs = model(
        case.inputs["input_values"],
        bool_masked_pos=case.inputs["bool_masked_pos"],
        bool_masked_pos_generative=case.inputs["bool_masked_pos_mpg"],
    )
    outputs.loss.backward()
    results = {
        "loss": outputs.loss,
        "loss.nce": outputs.contrastive_loss,
        "loss.mse": outputs.generative_loss,
        "accuracy": outputs.accuracy,
    }
    config, parameters = model.config, dict(model.named_parameters())
    depth = config.num_hidden_layers * (2 if config.bidirectional else 1)
    rules = [*encoder_rules(depth, config.bidirectional), *HEAD_RULES]
    embeddings = model.ssamba.embeddings
    table = embeddings.positions.grad.flatten(0, 1)[None]
    positions = torch.cat([embeddings.cls_position.grad, table], dim=1)

    def gradient(name: str) -> Tensor:
        return positions if name.endswith("pos_embed") else parameters[name].grad

    for key in case.wanted_after("grad."):
        results[f"grad.{key}"] = original_tensor(key.removeprefix(PREFIX), rules, gradient)
    return results


@torch.no_grad()
def classification_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config)
    outputs = model.ssamba(case.inputs["input_values"])
    head = nn.Sequential(model.norm, model.classifier)
    results = {
        "logits": model(case.inputs["input_values"]).logits,
        "logits_cls": head(outputs.last_hidden_state[:, 0]),
        "last_hidden_state": outputs.last_hidden_state,
    }
    return {name: value for name, value in results.items() if name in case.wanted}


if __name__ == "__main__":
    print("wrote", conversion_command(convert, feature_extractor, description=__doc__))

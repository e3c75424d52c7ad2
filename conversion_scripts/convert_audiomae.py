#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Converts Audio-MAE checkpoints: the authors' files, pre-trained (with either decoder) or fine-tuned, and bare state
dicts in the layout of timm, pre-trained without decoder or fine-tuned.

    python conversion_scripts/convert_audiomae.py --checkpoint pretrained.pth --output audiomae-base
"""

import torch
from torch import Tensor

from hf_audio_ssl import (
    AudioMaeConfig,
    AudioMaeFeatureExtractor,
    AudioMaeForAudioClassification,
    AudioMaeForPreTraining,
    AudioMaeModel,
)
from hf_audio_ssl.command_line import conversion_command
from hf_audio_ssl.conversion import (
    ConversionError,
    convert_state_dict,
    drop,
    load_converted,
    original_state,
    rename,
    split,
)
from hf_audio_ssl.models.audiomae.modeling_audiomae import AudioMaePositions


def block_rules(source: str, target: str) -> list:
    return [
        split(
            rf"{source}\.(\d+)\.attn\.qkv\.(weight|bias)",
            *(rf"{target}.\1.attention.{part}_proj.\2" for part in "qkv"),
        ),
        rename(rf"{source}\.(\d+)\.attn\.proj\.(weight|bias)", rf"{target}.\1.attention.o_proj.\2"),
        rename(rf"{source}\.(\d+)\.(norm1|norm2|mlp\.fc1|mlp\.fc2)\.(weight|bias)", rf"{target}.\1.\2.\3"),
    ]


RULES = [
    rename(r"cls_token", r"audiomae.embeddings.cls_token"),
    rename(r"patch_embed\.proj\.(weight|bias)", r"audiomae.embeddings.patch_embedding.projection.\1"),
    *block_rules("blocks", "audiomae.layers"),
    rename(r"norm\.(weight|bias)", r"audiomae.final_norm.\1"),
    rename(r"mask_token", r"decoder.mask_token"),
    rename(r"decoder_embed\.(weight|bias)", r"decoder.embed.\1"),
    rename(r"decoder_norm\.(weight|bias)", r"decoder.norm.\1"),
    rename(r"decoder_pred\.(weight|bias)", r"decoder.prediction.\1"),
    rename(r"fc_norm\.(weight|bias)", r"norm.\1"),
    rename(r"head\.(weight|bias)", r"classifier.\1"),
]
GLOBAL_RULES = [*RULES, *block_rules("decoder_blocks", "decoder.layers")]
LOCAL_RULES = [
    *RULES,
    rename(r"decoder_blocks\.(\d+)\.attn\.qkv\.(weight|bias)", r"decoder.layers.\1.attention.qkv.\2"),
    rename(r"decoder_blocks\.(\d+)\.attn\.tau", r"decoder.layers.\1.attention.temperature"),
    rename(
        r"decoder_blocks\.(\d+)\.attn\.meta_mlp\.(fc1|fc2)\.(weight|bias)",
        r"decoder.layers.\1.attention.position_bias.\2.\3",
    ),
    *block_rules("decoder_blocks", "decoder.layers"),
]
FIXED_POSITIONS = [drop(r"pos_embed|decoder_pos_embed", "a fixed table: computed, and equal to this one")]
LEARNED_POSITIONS = [
    rename(r"pos_embed", r"audiomae.embeddings.positions.table"),
    rename(r"decoder_pos_embed", r"decoder.positions.table"),
]
# mean, deviation and frames that the authors' fine-tuning scripts set for each data set
DATASETS = {
    "audioset": (-4.2677393, 4.5689974, 1024),
    "esc50": (-6.6268077, 5.358466, 512),
    "speechcommands": (-6.845978, 5.5654526, 128),
}


def read(checkpoint: dict, original_config: dict | None) -> tuple[dict[str, Tensor], list, dict]:
    """State dict, rules and settings. The authors store an `argparse.Namespace`, which is read as an inert record."""
    state = original_state(checkpoint)
    settings = original_config or getattr(checkpoint.get("args"), "state", None) or {}
    if "patch_embed.proj.weight" not in state or "pos_embed" not in state:
        raise ConversionError(
            f"no Audio-MAE checkpoint: expected patch_embed.proj.weight and pos_embed, got {sorted(state)[:5]}"
        )
    if settings.get("use_custom_patch"):
        raise ConversionError("use_custom_patch: models with overlapping patches are not supported")
    return state, LOCAL_RULES if "decoder_blocks.0.attn.tau" in state else GLOBAL_RULES, settings


def position_embedding(state: dict[str, Tensor], config: AudioMaeConfig) -> str:
    """Which of the tables that we can compute the file holds; "learned" if none, as after training them."""
    tables = [
        (state[key], part)
        for key, part in (("pos_embed", config), ("decoder_pos_embed", config.part("decoder_")))
        if key in state
    ]
    for kind in ("transposed", "aligned"):
        config.position_embedding = kind
        if all(
            (AudioMaePositions(part).fixed(table.shape[1] - 1) - table[0]).abs().max() < 1e-5 for table, part in tables
        ):
            return kind
    return "learned"


def infer_config(state: dict[str, Tensor], settings: dict) -> AudioMaeConfig:
    """Sizes come from the tensors; what they do not show from the settings, or else from the paper's base model."""

    def count(prefix: str) -> int:
        return len({key.split(".")[1] for key in state if key.startswith(prefix + ".")})

    hidden_size, _, _, patch_size = state["patch_embed.proj.weight"].shape
    num_mel_bins = (settings.get("img_size") or (1024, 128))[1]
    fields = {
        "hidden_size": hidden_size,
        "patch_size": patch_size,
        "num_mel_bins": num_mel_bins,
        "num_time_patches": (state["pos_embed"].shape[1] - 1) // (num_mel_bins // patch_size),
        "num_hidden_layers": count("blocks"),
        "intermediate_size": len(state["blocks.0.mlp.fc1.weight"]),
        # head width 64 in all sizes of the paper
        "num_attention_heads": settings.get("num_heads") or max(hidden_size // 64, 1),
        "layer_norm_eps": settings.get("layer_norm_eps", 1e-6),
    }
    if "decoder_embed.weight" in state:
        temperature = state.get("decoder_blocks.0.attn.tau")
        fields |= {
            "decoder_type": "global" if temperature is None else "local",
            "decoder_hidden_size": len(state["decoder_embed.weight"]),
            "decoder_num_hidden_layers": count("decoder_blocks"),
            "decoder_num_attention_heads": settings.get("decoder_num_heads", 16)
            if temperature is None
            else len(temperature),
            "decoder_intermediate_size": len(state["decoder_blocks.0.mlp.fc1.weight"]),
            "norm_pix_loss": settings.get("norm_pix_loss", True),
            "mask_strategy": "time_frequency" if settings.get("mask_2d") else "patches",
            "mask_ratio": settings.get("mask_ratio", 0.8),
            "mask_time_ratio": settings.get("mask_t_prob", 0.7),
            "mask_frequency_ratio": settings.get("mask_f_prob", 0.3),
        }
        if temperature is not None:
            fields["decoder_bias_hidden_size"] = len(state["decoder_blocks.0.attn.meta_mlp.fc1.weight"])
            fields["decoder_window_shift"] = 0 if settings.get("no_shift") else 2
    if "head.weight" in state:
        single = settings.get("dataset") == "esc50"
        fields |= {
            "num_labels": len(state["head.weight"]),
            "problem_type": "single_label_classification" if single else "multi_label_classification",
            "drop_path_rate": settings.get("drop_path", 0.0),
            "classifier_mask_time_ratio": settings.get("mask_t_prob", 0.0),
            "classifier_mask_frequency_ratio": settings.get("mask_f_prob", 0.0),
        }
    config = AudioMaeConfig(**fields)
    config.position_embedding = position_embedding(state, config)
    return config


def position_rules(config: AudioMaeConfig) -> list:
    return LEARNED_POSITIONS if config.position_embedding == "learned" else FIXED_POSITIONS


def convert(checkpoint: dict, original_config: dict | None = None):
    """The model that the checkpoint holds: for pre-training, for classification, or the encoder alone."""
    state, rules, settings = read(checkpoint, original_config)
    config = infer_config(state, settings)
    tables = [key for key in ("pos_embed", "decoder_pos_embed") if key in state]
    state = state | {key: state[key][0] for key in tables}
    converted, dropped = convert_state_dict(state, [*rules, *position_rules(config)])
    if "classifier.weight" in converted:
        model = AudioMaeForAudioClassification(config)
    elif "decoder.embed.weight" in converted:
        model = AudioMaeForPreTraining(config)
    else:
        model = AudioMaeModel(config)
        converted = {key.removeprefix("audiomae."): value for key, value in converted.items()}
    load_converted(model, converted)
    model.conversion_report = dropped
    return model.eval()


def feature_extractor(checkpoint: dict, original_config: dict | None = None) -> AudioMaeFeatureExtractor:
    """The normalisation of the data set that the checkpoint was trained on; AudioSet's if it does not say."""
    _, _, settings = read(checkpoint, original_config)
    mean, std, frames = DATASETS.get(settings.get("dataset"), DATASETS["audioset"])
    return AudioMaeFeatureExtractor(mean=mean, std=std, max_length=frames)


# -- parity -----------------------------------------------------------------------------------------------------------


def parity_outputs(case) -> dict[str, Tensor]:
    return globals()[f"{case.kind}_outputs"](case)


def features_outputs(case) -> dict[str, Tensor]:
    config = case.original_config
    extractor = AudioMaeFeatureExtractor(
        sampling_rate=config["sampling_rate"],
        num_mel_bins=config["num_mel_bins"],
        max_length=config["target_length"],
        mean=config["mean"],
        std=config["std"],
    )
    features = extractor(list(case.inputs["waveform"]), sampling_rate=config["sampling_rate"])
    return {"input_values": features["input_values"]}


def position_embeddings_outputs(case) -> dict[str, Tensor]:
    original = case.original_config
    frames, mels = original["img_size"]
    config = AudioMaeConfig(
        hidden_size=original["embed_dim"],
        num_attention_heads=original["num_heads"],
        decoder_hidden_size=original["decoder_embed_dim"],
        decoder_num_attention_heads=original["decoder_num_heads"],
        num_mel_bins=mels,
        patch_size=original["patch_size"],
        num_time_patches=frames // original["patch_size"],
    )
    patches = config.num_time_patches * config.num_mel_patches
    return {
        "pos_embed": AudioMaePositions(config).fixed(patches)[None],
        "decoder_pos_embed": AudioMaePositions(config.part("decoder_")).fixed(patches)[None],
    }


@torch.no_grad()
def encoder_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config).base_model
    outputs = model(case.inputs["input_values"], output_hidden_states=True)
    first = case.original_config["contextual_depth"] + 1
    return {
        "last_hidden_state": outputs.last_hidden_state,
        "contextual_embedding": model.contextual_embedding(outputs.hidden_states, first),
        **{f"hidden_states.{k}": outputs.hidden_states[int(k)] for k in case.wanted_after("hidden_states.")},
    }


def pretraining_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config).train()
    # the cases were made with every dropout at zero; the original's own, 0.1, is in the network of the position bias
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    encoded = []
    model.audiomae.final_norm.register_forward_hook(lambda module, args, output: encoded.append(output))
    outputs = model(case.inputs["input_values"], bool_masked_pos=case.inputs["bool_masked_pos"])
    outputs.loss.backward()
    _, rules, _ = read(case.checkpoint, case.original_config)
    return {
        "loss": outputs.loss,
        "predictions": outputs.predictions,
        "encoder_visible": encoded[0],
        **case.gradients(model, rules),
    }


@torch.no_grad()
def classification_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config)
    visible = None
    if "keep_time" in case.inputs:
        time, frequency = case.inputs["keep_time"], case.inputs["keep_frequency"]
        visible = (time[:, :, None] * model.config.num_mel_patches + frequency[:, None]).flatten(1)
    pooled = []
    model.norm.register_forward_hook(lambda module, args, output: pooled.append(output))
    results = {"logits": model(case.inputs["input_values"], visible=visible).logits}
    if "pooler_output" in case.wanted:
        results["pooler_output"] = pooled[0]
    return results


if __name__ == "__main__":
    print("wrote", conversion_command(convert, feature_extractor, description=__doc__))

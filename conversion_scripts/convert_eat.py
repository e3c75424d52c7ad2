#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Converts EAT checkpoints: the authors' fairseq files (pre-trained or fine-tuned) and their Hub repositories'
weights.

    python conversion_scripts/convert_eat.py --checkpoint checkpoint10.pt --output eat-base
"""

import re

import torch
from torch import Tensor

from hf_audio_ssl import EatConfig, EatFeatureExtractor, EatForAudioClassification, EatForPreTraining, EatModel
from hf_audio_ssl.audio.augment import mixup
from hf_audio_ssl.command_line import conversion_command
from hf_audio_ssl.conversion import (
    ConversionError,
    convert_state_dict,
    drop,
    load_converted,
    original_state,
    original_tensor,
    rename,
    split,
)


def encoder_rules(source: str, target: str, stem: str, norm: str) -> list:
    """Rules of one encoder whose keys begin with `source`; `stem` is where the patch convolution lives."""
    return [
        rename(rf"{source}{stem}extra_tokens", rf"{target}embeddings.cls_token"),
        rename(
            rf"{source}{stem}local_encoder\.proj\.(weight|bias)", rf"{target}embeddings.patch_embedding.projection.\1"
        ),
        rename(rf"{source}{stem}{norm}\.(weight|bias)", rf"{target}embeddings.norm.\1"),
        drop(
            rf"{source}{stem}fixed_positional_encoder\.positions", "a fixed table: computed, and checked to be equal"
        ),
        split(
            rf"{source}blocks\.(\d+)\.attn\.qkv\.(weight|bias)",
            *(rf"{target}layers.\1.attention.{part}_proj.\2" for part in "qkv"),
        ),
        rename(rf"{source}blocks\.(\d+)\.attn\.proj\.(weight|bias)", rf"{target}layers.\1.attention.o_proj.\2"),
        rename(rf"{source}blocks\.(\d+)\.(norm1|norm2|mlp\.fc1|mlp\.fc2)\.(weight|bias)", rf"{target}layers.\1.\2.\3"),
    ]


def fairseq_rules(source: str, target: str) -> list:
    return encoder_rules(source, target, r"modality_encoders\.IMAGE\.", r"context_encoder\.norm")


PRETRAINING_RULES = [
    *fairseq_rules("", "eat."),
    *fairseq_rules(r"_ema\.", "teacher."),
    rename(r"modality_encoders\.IMAGE\.decoder\.blocks\.(\d+)\.0\.(weight|bias)", r"decoder.layers.\1.\2"),
    rename(r"modality_encoders\.IMAGE\.decoder\.proj\.(weight|bias)", r"decoder.projection.\1"),
]
HEAD_RULES = [rename(r"fc_norm\.(weight|bias)", r"norm.\1"), rename(r"head\.(weight|bias)", r"classifier.\1")]
FINETUNED_RULES = [*fairseq_rules(r"model\.", "eat."), *HEAD_RULES]
HUB_RULES = [
    *encoder_rules(r"model\.", "eat.", "", "pre_norm"),
    *(rename(r"model\." + rule.pattern, rule.targets[0]) for rule in HEAD_RULES),
]


def read(checkpoint: dict, original_config: dict | None) -> tuple[dict[str, Tensor], list, dict, dict]:
    """State dict, rules, the encoder's settings and the fine-tuning settings (empty if pre-trained) of any of the
    layouts.
    """
    state = original_state(checkpoint)
    settings = original_config or checkpoint.get("cfg") or {}
    model = settings.get("model", settings)
    if not any(key.endswith("local_encoder.proj.weight") for key in state):
        raise ConversionError(
            f"no EAT checkpoint: expected a key ...local_encoder.proj.weight, got {sorted(state)[:5]}"
        )
    if "model.local_encoder.proj.weight" in state:
        return state, HUB_RULES, model, {}
    if any(key.startswith("model.modality_encoders") for key in state):
        finetuning = dict(model)
        encoder = (finetuning.get("pretrained_model_args") or {}).get("model", {})
        return state, FINETUNED_RULES, encoder, finetuning
    return state, PRETRAINING_RULES, model, {}


def infer_config(state: dict[str, Tensor], settings: dict, finetuning: dict) -> EatConfig:
    """Sizes come from the tensors; what they do not show from the settings, or else from the paper's base model."""
    blocks = {int(match[1]) for key in state if (match := re.match(r"(?:model\.)?blocks\.(\d+)\.", key))}
    kernel = next(tensor for key, tensor in state.items() if key.endswith("local_encoder.proj.weight"))
    hidden_size, patch_size = kernel.shape[0], kernel.shape[-1]
    image = settings.get("modalities", {}).get("image", {})
    fields = {
        "hidden_size": hidden_size,
        "patch_size": patch_size,
        "num_hidden_layers": len(blocks),
        "intermediate_size": next(t.shape[0] for key, t in state.items() if key.endswith("mlp.fc1.weight")),
        # head width 64 in both released sizes
        "num_attention_heads": settings.get("num_heads") or max(hidden_size // 64, 1),
        "layer_norm_eps": settings.get("norm_eps", 1e-6),
        "hidden_dropout_prob": settings.get("encoder_dropout", 0.0),
        "attention_probs_dropout_prob": settings.get("attention_dropout", 0.0),
    }
    positions = [tensor for key, tensor in state.items() if key.endswith("fixed_positional_encoder.positions")]
    if positions:
        fields["max_time_patches"] = positions[0].shape[-2] // (128 // patch_size)
    decoder = image.get("decoder") or {}
    fields |= {
        "decoder_hidden_size": decoder.get("decoder_dim", hidden_size),
        "decoder_num_layers": decoder.get("decoder_layers", 6),
        "decoder_kernel_size": decoder.get("decoder_kernel", 3),
        "decoder_groups": decoder.get("decoder_groups", 16),
        "average_top_k_layers": settings.get("average_top_k_layers"),
        "num_clones": settings.get("clone_batch", 16),
        "frame_loss_weight": settings.get("d2v_loss", 1.0),
        "utterance_loss_weight": settings.get("cls_loss", 1.0),
        "ema_decay": settings.get("ema_decay", 0.9998),
        "ema_end_decay": settings.get("ema_end_decay", 0.99999),
        "ema_anneal_steps": int(settings.get("ema_anneal_end_step", 100_000)),
        "mask_ratio": image.get("mask_prob", 0.8),
        "mask_ratio_adjust": image.get("mask_prob_adjust", 0.07),
        "mask_block_size": image.get("mask_length", 5),
        "mask_noise_std": image.get("mask_noise_std", 0.01),
    }
    if convolutions := [t for key, t in state.items() if re.search(r"IMAGE\.decoder\.blocks\.\d+\.0\.weight", key)]:
        fields |= {
            "decoder_hidden_size": convolutions[0].shape[0],
            "decoder_num_layers": len(convolutions),
            "decoder_kernel_size": convolutions[0].shape[-1],
            "decoder_groups": hidden_size // convolutions[0].shape[1],
        }
    head = state.get("head.weight", state.get("model.head.weight"))
    if head is not None:
        esc50, spcv2 = finetuning.get("esc50_eval", False), finetuning.get("spcv2_eval", False)
        fields |= {
            "num_labels": head.shape[0],
            "problem_type": "single_label_classification" if esc50 else "multi_label_classification",
            "classifier_loss_reduction": "batch" if spcv2 else "labels",
            "classifier_pooling": "mean"
            if finetuning.get("prediction_mode", "CLS_TOKEN").startswith("MEAN")
            else "cls",
            # with mixup the originals' label smoothing has no effect
            "label_smoothing": finetuning.get("label_smoothing", 0.0) if esc50 else 0.0,
            "drop_path_rate": finetuning.get("drop_path_rate", 0.0),
        }
    return EatConfig(**fields)


def check_positions(state: dict[str, Tensor], model) -> None:
    """The table is not stored in our checkpoints, so it must be the one we compute."""
    ours = model.base_model.embeddings.positions
    for key, tensor in state.items():
        if key.endswith("fixed_positional_encoder.positions"):
            difference = (tensor.reshape(-1, tensor.shape[-1]).float() - ours[: tensor.shape[-2]]).abs().max().item()
            if difference > 1e-4:
                raise ConversionError(f"{key} is not the fixed sine-cosine table: differs by up to {difference:.2g}")


def convert(checkpoint: dict, original_config: dict | None = None):
    """The model that the checkpoint holds: `EatForPreTraining`, `EatForAudioClassification`, or `EatModel`."""
    state, rules, settings, finetuning = read(checkpoint, original_config)
    config = infer_config(state, settings, finetuning)
    converted, dropped = convert_state_dict(state, rules)
    if any(key.startswith("classifier.") for key in converted):
        model = EatForAudioClassification(config)
    elif any(key.startswith("decoder.") for key in converted):
        model = EatForPreTraining(config)
        if not any(key.startswith("teacher.") for key in converted):
            # saved without a teacher: it restarts from the student
            converted |= {"teacher." + key[4:]: value for key, value in converted.items() if key.startswith("eat.")}
    else:
        model = EatModel(config)
        converted = {key.removeprefix("eat."): value for key, value in converted.items()}
    load_converted(model, converted)
    check_positions(state, model)
    model.conversion_report = dropped
    return model.eval()


def feature_extractor(checkpoint: dict, original_config: dict | None = None) -> EatFeatureExtractor:
    """The normalisation of the data set that the checkpoint was trained on."""
    _, _, settings, finetuning = read(checkpoint, original_config)
    task = (original_config or checkpoint.get("cfg") or {}).get("task") or {}
    if finetuning.get("esc50_eval"):
        return EatFeatureExtractor(mean=-6.627, std=5.359, max_length=finetuning.get("target_length", 512))
    if finetuning.get("spcv2_eval"):
        return EatFeatureExtractor(mean=-6.846, std=5.565, max_length=finetuning.get("target_length", 128))
    return EatFeatureExtractor(max_length=finetuning.get("target_length") or task.get("target_length") or 1024)


# -- parity -----------------------------------------------------------------------------------------------------------


def parity_outputs(case) -> dict[str, Tensor]:
    return globals()[f"{case.kind}_outputs"](case)


def features_outputs(case) -> dict[str, Tensor]:
    config = case.original_config
    extractor = EatFeatureExtractor(
        sampling_rate=config["sampling_rate"],
        num_mel_bins=config["num_mel_bins"],
        frame_length=config["frame_length_ms"],
        frame_shift=config["frame_shift_ms"],
        window_type=config["window_type"],
        max_length=config["target_length"],
        mean=config["norm_mean"],
        std=config["norm_std"],
    )
    waves = list(case.inputs["waveform"])
    return {"input_values": extractor(waves, sampling_rate=config["sampling_rate"])["input_values"]}


@torch.no_grad()
def encoder_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config).base_model
    attention_mask, keep = None, 1
    if "attention_mask" in case.inputs:
        # the case masks whole rows of patches; we mask frames
        patches = case.inputs["attention_mask"]
        rows = patches[:, :: model.config.num_mel_patches]
        attention_mask = rows.repeat_interleave(model.config.patch_size, dim=1)
        # the original zeroes what stands at padded patches
        keep = torch.nn.functional.pad(patches, (1, 0), value=1)[..., None]
    outputs = model(case.inputs["input_values"], attention_mask, output_hidden_states=True, output_ffn_states=True)
    results = {"last_hidden_state": outputs.last_hidden_state * keep, "pooler_output": outputs.pooler_output}
    for k in case.wanted_after("hidden_states."):
        results[f"hidden_states.{k}"] = outputs.hidden_states[int(k)] * keep
    for k in case.wanted_after("layer_results."):
        results[f"layer_results.{k}"] = outputs.ffn_states[int(k) - 1] * keep
    return results


def pretraining_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config).train()
    outputs = model(
        case.inputs["input_values"],
        bool_masked_pos=case.inputs["bool_masked_pos"],
        mask_noise=case.inputs["mask_token_noise"],
    )
    outputs.loss.backward()
    # the authors' trainer divides the summed loss by the number of masked patches; so does ours, inside the loss
    masked = outputs.bool_masked_pos.sum()
    results = {
        "loss": outputs.loss,
        "sample_size": masked,
        "loss.cls": outputs.utterance_loss,
        "loss.regression": outputs.frame_loss,
        "targets": outputs.targets,
        "predictions": outputs.predictions,
        "cls_prediction": outputs.utterance_prediction,
        **case.gradients(model, PRETRAINING_RULES),
    }
    step = case.original_config["num_updates"]
    results["ema_decay"] = torch.tensor(model.ema_decay_at(step))
    model.after_optimizer_step(step)
    for key in case.wanted_after("ema."):
        results[f"ema.{key}"] = original_tensor("_ema." + key, PRETRAINING_RULES, model.get_parameter)
    return results


def classification_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config)
    values, labels = case.inputs["input_values"], case.inputs["labels"]
    with torch.no_grad():
        logits = model(values).logits
        last_hidden_state = model.eat(values).last_hidden_state
    if "mixup_lambda" in case.inputs:
        values, labels = mixup(values, labels, case.inputs["mixup_lambda"])
    loss = model.train()(values, labels=labels).loss
    loss.backward()
    return {
        "logits": logits,
        "last_hidden_state": last_hidden_state,
        "loss": loss,
        **case.gradients(model, FINETUNED_RULES),
    }


if __name__ == "__main__":
    print("wrote", conversion_command(convert, feature_extractor, description=__doc__))

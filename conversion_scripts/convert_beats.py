#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Converts BEATs checkpoints of the authors: pre-trained and fine-tuned encoders, and tokenizers.

python conversion_scripts/convert_beats.py --checkpoint BEATs_iter3_plus_AS2M.pt --output beats-base
"""

import re

import torch
from torch import Tensor

from hf_audio_ssl import BeatsConfig, BeatsFeatureExtractor, BeatsForAudioClassification, BeatsModel, BeatsTokenizer
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
from hf_audio_ssl.models.beats.modeling_beats import proportional_padding
from hf_audio_ssl.modules.vector_quantizer import EMAQuantizer

LAYER, OURS = r"encoder\.layers\.(\d+)\.", r"beats.encoder.layers.\1."
TIED = LAYER + r"self_attn\.relative_attention_bias\.weight"
CONVOLUTION = r"encoder\.pos_conv\.0\."
RULES = [
    rename(r"patch_embedding\.(weight|bias)", r"beats.patch_embedding.projection.\1"),
    rename(r"layer_norm\.(weight|bias)", r"beats.patch_norm.\1"),
    rename(r"post_extract_proj\.(weight|bias)", r"beats.projection.\1"),
    # weight normalisation under its old and its new name
    rename(
        CONVOLUTION + r"(?:weight_g|parametrizations\.weight\.original0)", "beats.encoder.position_convolution.gain"
    ),
    rename(
        CONVOLUTION + r"(?:weight_v|parametrizations\.weight\.original1)",
        "beats.encoder.position_convolution.direction",
    ),
    rename(CONVOLUTION + "bias", "beats.encoder.position_convolution.bias"),
    rename(r"encoder\.layer_norm\.(weight|bias)", r"beats.encoder.norm.\1"),
    rename(TIED, "beats.encoder.relative_position.embedding.weight"),
    rename(LAYER + r"self_attn\.([qkv]_proj)\.(weight|bias)", OURS + r"attention.\2.\3"),
    rename(LAYER + r"self_attn\.out_proj\.(weight|bias)", OURS + r"attention.o_proj.\2"),
    rename(LAYER + r"self_attn\.grep_linear\.(weight|bias)", OURS + r"attention.gate.\2"),
    rename(LAYER + r"self_attn\.grep_a", OURS + "attention.gate_scale"),
    rename(LAYER + r"self_attn_layer_norm\.(weight|bias)", OURS + r"norm1.\2"),
    rename(LAYER + r"final_layer_norm\.(weight|bias)", OURS + r"norm2.\2"),
    # `fc1.linear`: the gated unit of activation_fn "glu"
    rename(LAYER + r"(fc1|fc2)(?:\.linear)?\.(weight|bias)", OURS + r"mlp.\2.\3"),
    rename(r"predictor\.(weight|bias)", r"classifier.\1"),
    rename(r"quantize_layer\.(\d)\.(weight|bias)", r"code_projection.\1.\2"),
    rename(r"quantize\.embedding\.weight", "quantizer.codebook"),
    rename(r"quantize\.cluster_size", "quantizer.cluster_size"),
    rename(r"quantize\.embedding\.cluster_size", "quantizer.initial_counts"),
    rename(r"quantize\.embedding\.initted", "quantizer.initialised"),
    drop(r"quantize\.embedding\.embed_avg", "a copy of the first codebook that nothing reads or updates"),
]
# what the original assumes where a file's settings lack a key; the released files hold them all
ORIGINAL_DEFAULTS = {
    "activation_fn": "gelu",
    "layer_wise_gradient_decay_ratio": 1.0,
    "layer_norm_first": False,
    "deep_norm": False,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "dropout_input": 0.0,
    "max_distance": 1280,
    "predictor_dropout": 0.1,
}
ACTIVATIONS = {"gelu_accurate": "gelu_new", "gelu_fast": "gelu_new", "glu": "silu"}


def read(checkpoint: dict, original_config: dict | None) -> tuple[dict[str, Tensor], dict]:
    """State dict and settings."""
    state = original_state(checkpoint)
    if "patch_embedding.weight" not in state:
        raise ConversionError(f"no BEATs checkpoint: expected a key patch_embedding.weight, got {sorted(state)[:5]}")
    return state, original_config or checkpoint.get("cfg") or {}


def infer_config(state: dict[str, Tensor], settings: dict, labels: dict | None) -> BeatsConfig:
    """Sizes come from the tensors; what they do not show from the settings, or else from the released base model."""
    kernel, direction = state["patch_embedding.weight"], None
    for key, tensor in state.items():
        if re.fullmatch(CONVOLUTION + r"(weight_v|parametrizations\.weight\.original1)", key):
            direction = tensor
    if direction is None:
        raise ConversionError("no BEATs checkpoint: the positional convolution is missing")
    hidden_size, channels, taps = direction.shape
    tables = [tensor for key, tensor in state.items() if re.fullmatch(TIED, key)]
    fields = {
        "patch_size": kernel.shape[-1],
        "patch_hidden_size": kernel.shape[0],
        "patch_bias": "patch_embedding.bias" in state,
        "hidden_size": hidden_size,
        "position_kernel_size": taps,
        "position_groups": hidden_size // channels,
        "num_hidden_layers": len({match[1] for key in state if (match := re.match(LAYER, key))}),
        "intermediate_size": state["encoder.layers.0.fc2.weight"].shape[1],
        "num_position_buckets": tables[0].shape[0] if tables else 0,
        "gated_position_bias": "encoder.layers.0.self_attn.grep_a" in state,
        # head width 64 in all releases
        "num_attention_heads": tables[0].shape[1]
        if tables
        else settings.get("encoder_attention_heads", hidden_size // 64),
    }
    if settings:
        known = ORIGINAL_DEFAULTS | settings
        fields |= {
            "hidden_act": ACTIVATIONS.get(known["activation_fn"], known["activation_fn"]),
            "gated_mlp": known["activation_fn"] == "glu",
            "norm_first": known["layer_norm_first"],
            "deep_norm": known["deep_norm"],
            "gradient_decay_ratio": known["layer_wise_gradient_decay_ratio"],
            "hidden_dropout_prob": known["dropout"],
            "attention_probs_dropout_prob": known["attention_dropout"],
            "activation_dropout": known["activation_dropout"],
            "layerdrop": known["encoder_layerdrop"],
            "input_dropout": known["dropout_input"],
            "max_position_distance": known["max_distance"],
            "classifier_dropout": known["predictor_dropout"],
        }
    if "quantize.embedding.weight" in state:
        fields["tokenizer_type"] = "learned"
        fields["codebook_size"], fields["codebook_dim"] = state["quantize.embedding.weight"].shape
    if "predictor.weight" in state:
        names = labels or range(len(state["predictor.weight"]))
        fields["problem_type"] = "multi_label_classification"
        fields["id2label"] = {int(i): str(names[i]) for i in names}
        fields["label2id"] = {name: i for i, name in fields["id2label"].items()}
    return BeatsConfig(**fields)


def untie(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All layers share one table of position biases, repeated in the file: keep the last, as loading in order does."""
    copies = sorted((key for key in state if re.fullmatch(TIED, key)), key=lambda key: int(re.match(LAYER, key)[1]))
    dropped = dict.fromkeys(copies[:-1], "the same table in every layer: the last layer's is kept")
    return {key: tensor for key, tensor in state.items() if key not in dropped}, dropped


def convert(checkpoint: dict, original_config: dict | None = None):
    """The model that the checkpoint holds: `BeatsModel`, `BeatsForAudioClassification` or `BeatsTokenizer`.

    The authors published no label predictor: for more pre-training, load the encoder into `BeatsForPreTraining`.
    """
    state, settings = read(checkpoint, original_config)
    config = infer_config(state, settings, checkpoint.get("label_dict"))
    state, tied = untie(state)
    converted, dropped = convert_state_dict(state, RULES)
    if "predictor.weight" in state:
        model = BeatsForAudioClassification(config)
    elif config.tokenizer_type == "learned":
        model = BeatsTokenizer(config)
    else:
        model = BeatsModel(config)
        converted = {key.removeprefix("beats."): value for key, value in converted.items()}
    load_converted(model, converted)
    model.conversion_report = dropped | tied
    return model.eval()


def feature_extractor(checkpoint: dict, original_config: dict | None = None) -> BeatsFeatureExtractor:
    return BeatsFeatureExtractor(min_frames=read(checkpoint, original_config)[0]["patch_embedding.weight"].shape[-1])


# -- parity -----------------------------------------------------------------------------------------------------------


def parity_outputs(case) -> dict[str, Tensor]:
    return globals()[f"{case.kind.removesuffix('_padded')}_outputs"](case)


def inputs_of(case) -> dict[str, Tensor]:
    """Spectrograms, and a frame mask made of the case's sample mask by the original's rule."""
    features = BeatsFeatureExtractor(sampling_rate=case.description["sampling_rate"])(
        list(case.inputs["waveform"]),
        sampling_rate=case.description["sampling_rate"],
        padding=False,
        truncation=False,
        return_attention_mask=False,
    )
    inputs = {"input_values": features["input_values"]}
    if "attention_mask" in case.inputs:
        padding = proportional_padding(case.inputs["attention_mask"] == 0, inputs["input_values"].shape[1])
        inputs["attention_mask"] = (~padding).long()
    return inputs


def original_padding(model):
    """`model`, which leaves out the patches that the original leaves out; see `BeatsConfig.exact_padding`."""
    model.config.exact_padding = False
    return model


def padding_mask_of(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"padding_mask": ~model.token_mask(inputs["attention_mask"])} if "attention_mask" in inputs else {}


def features_outputs(case) -> dict[str, Tensor]:
    config = case.original_config
    extractor = BeatsFeatureExtractor(
        sampling_rate=config["sample_frequency"],
        num_mel_bins=config["num_mel_bins"],
        frame_length=config["frame_length"],
        frame_shift=config["frame_shift"],
        mean=config["fbank_mean"],
        std=config["fbank_std"],
    )
    waves = list(case.inputs["waveform"])
    features = extractor(waves, sampling_rate=config["sample_frequency"], padding=False, truncation=False)
    return {"input_values": features["input_values"]}


@torch.no_grad()
def encoder_outputs(case) -> dict[str, Tensor]:
    model, inputs = original_padding(convert(case.checkpoint, case.original_config)), inputs_of(case)
    outputs = model(**inputs, output_hidden_states=True)
    states = {f"hidden_states.{k}": outputs.hidden_states[int(k)] for k in case.wanted_after("hidden_states.")}
    return {
        "input_values": inputs["input_values"],
        "last_hidden_state": outputs.last_hidden_state,
        **states,
        **padding_mask_of(model, inputs),
    }


def classification_outputs(case) -> dict[str, Tensor]:
    model, inputs = original_padding(convert(case.checkpoint, case.original_config)), inputs_of(case)
    outputs = model(**inputs, labels=case.inputs["labels"])
    outputs.loss.backward()
    return {
        "probs": outputs.logits.sigmoid(),
        "logits": outputs.logits,
        "loss": outputs.loss,
        **padding_mask_of(model.beats, inputs),
        **case.gradients(model, RULES),
    }


@torch.no_grad()
def tokenizer_outputs(case) -> dict[str, Tensor]:
    model = original_padding(convert(case.checkpoint, case.original_config))
    outputs = model(**inputs_of(case))
    return {
        "labels": outputs.codes,
        "last_hidden_state": outputs.last_hidden_state,
        "quantize_input": outputs.projections,
    }


def quantizer_outputs(case) -> dict[str, Tensor]:
    """One training step of the codebook alone."""
    config, state = case.original_config, case.checkpoint["model"]
    quantizer = EMAQuantizer(config["quant_n"], config["quant_dim"], config["decay"], config["kmeans_iters"]).train()
    converted, _ = convert_state_dict(state, RULES)
    load_converted(quantizer, {key.removeprefix("quantizer."): value for key, value in converted.items()})
    z = case.inputs["z"].clone().requires_grad_()
    quantized, loss, labels = quantizer(z, kmeans_indices=case.inputs.get("kmeans_indices"))
    loss = config["beta"] * loss
    (loss + (quantized * case.inputs["z_q_weight"]).sum()).backward()
    buffers = {f"quantizer.{name}": buffer for name, buffer in quantizer.named_buffers()}
    results = {"z_q": quantized, "loss": loss, "labels": labels, "grad.z": z.grad}
    for prefix, original in (("ema.", ""), ("embedding.", "quantize.embedding.")):
        for key in case.wanted_after(prefix):
            results[prefix + key] = original_tensor(original + key, RULES, buffers.__getitem__)
    return results


if __name__ == "__main__":
    print("wrote", conversion_command(convert, feature_extractor, description=__doc__))

#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Converts wav2vec 2.0 checkpoints in fairseq layout: base and large, Robust, XLSR-53, XLS-R, CLSRIL-23; pre-trained,
or fine-tuned with CTC; with their settings under `args` (2020) or `cfg` (later).

    python conversion_scripts/convert_wav2vec2.py --checkpoint wav2vec_small.pt --output wav2vec2-base

The result opens in plain transformers: AutoModel, Wav2Vec2ForPreTraining, Wav2Vec2ForCTC, Wav2Vec2FeatureExtractor.
A CTC model's file does not name its symbols: `--original-config` may be JSON with a list `dictionary` in
fairseq's order, its four special symbols included; the 32 of LibriSpeech are known.
"""

import ast
import json
import re
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from hf_audio_ssl import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining, Wav2Vec2Model
from hf_audio_ssl.command_line import conversion_command
from hf_audio_ssl.conversion import (
    ConversionError,
    InertRecord,
    convert_state_dict,
    drop,
    load_converted,
    original_state,
    original_tensor,
    rename,
)
from hf_audio_ssl.losses.contrastive import contrastive_logits
from hf_audio_ssl.modules.quantizers import gumbel_one_hot, product_codevectors

LETTERS = [*"|ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_accurate": "gelu_new"}
NOT_CONVERTED = {
    "quantize_input": "the transformer's input is never quantised here",
    "target_glu": "targets have no gate here",
    "same_quantizer": "there is one quantiser",
    "negatives_from_everywhere": "distractors are masked frames of the same clip",
    "cross_sample_negatives": "distractors are masked frames of the same clip",
    "codebook_negatives": "distractors are masked frames of the same clip",
    "no_mask_overlap": "spans may overlap",
    "mask_channel_prob": "pre-training masks frames only",
}


def encoder_rules(source: str, target: str) -> list:
    """Rules of the encoder; `source` (a pattern) and `target` are where its keys begin."""
    layer, to = rf"{source}encoder\.layers\.(\d+)\.", rf"{target}encoder.layers.\1."
    return [
        rename(rf"{source}mask_emb", f"{target}masked_spec_embed"),
        rename(
            rf"{source}feature_extractor\.conv_layers\.(\d+)\.0\.(weight|bias)",
            rf"{target}feature_extractor.conv_layers.\1.conv.\2",
        ),
        rename(
            rf"{source}feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?(weight|bias)",
            rf"{target}feature_extractor.conv_layers.\1.layer_norm.\2",
        ),
        rename(rf"{source}layer_norm\.(weight|bias)", rf"{target}feature_projection.layer_norm.\1"),
        rename(rf"{source}post_extract_proj\.(weight|bias)", rf"{target}feature_projection.projection.\1"),
        rename(rf"{source}encoder\.pos_conv\.0\.bias", f"{target}encoder.pos_conv_embed.conv.bias"),
        *(
            rename(
                rf"{source}encoder\.pos_conv\.0\.(?:{old}|parametrizations\.weight\.original{number})",
                f"{target}encoder.pos_conv_embed.conv.parametrizations.weight.original{number}",
            )
            for number, old in enumerate(("weight_g", "weight_v"))
        ),
        rename(rf"{layer}self_attn\.([qkv]|out)_proj\.(weight|bias)", rf"{to}attention.\2_proj.\3"),
        rename(rf"{layer}self_attn_layer_norm\.(weight|bias)", rf"{to}layer_norm.\2"),
        rename(rf"{layer}fc1\.(weight|bias)", rf"{to}feed_forward.intermediate_dense.\2"),
        rename(rf"{layer}fc2\.(weight|bias)", rf"{to}feed_forward.output_dense.\2"),
        rename(rf"{layer}final_layer_norm\.(weight|bias)", rf"{to}final_layer_norm.\2"),
        rename(rf"{source}encoder\.layer_norm\.(weight|bias)", rf"{target}encoder.layer_norm.\1"),
    ]


PRETRAINING_RULES = [
    *encoder_rules("", "wav2vec2."),
    rename(r"quantizer\.vars", "quantizer.codevectors"),
    rename(r"quantizer\.weight_proj\.(weight|bias)", r"quantizer.weight_proj.\1"),
    rename(r"project_q\.(weight|bias)", r"project_q.\1"),
    rename(r"final_proj\.(weight|bias)", r"project_hid.\1"),
]
CTC = "w2v_encoder.w2v_model."
CTC_RULES = [
    *encoder_rules(re.escape(CTC), "wav2vec2."),
    rename(r"w2v_encoder\.proj\.(weight|bias)", r"lm_head.\1"),
    drop(re.escape(CTC) + r"(quantizer|project_q|final_proj)\..*", "of pre-training: a recogniser has no use for it"),
]


# -- settings ---------------------------------------------------------------------------------------------------------


def plain(value) -> dict:
    """A settings object as a dictionary: `argparse.Namespace` is read without being one."""
    value = value.state if isinstance(value, InertRecord) else value
    return value if isinstance(value, dict) else {}


def read(checkpoint: dict, original_config: dict | None) -> tuple[dict[str, Tensor], dict, dict, dict]:
    """State dict; the encoder's settings; those of fine-tuning (empty if pre-trained); those of task and criterion."""
    state = original_state(checkpoint)
    if not any(key.endswith("feature_extractor.conv_layers.0.0.weight") for key in state):
        raise ConversionError(
            "no wav2vec 2.0 checkpoint: expected a key feature_extractor.conv_layers.0.0.weight, got "
            f"{sorted(state)[:5]}"
        )
    given = original_config or {}
    # in 2020 everything lay flat in one object
    flat, tree = plain(checkpoint.get("args")), plain(checkpoint.get("cfg"))
    run = flat | plain(tree.get("task")) | plain(tree.get("criterion"))
    model = flat | plain(tree.get("model"))
    finetuning = {}
    if any(key.startswith(CTC) for key in state):
        finetuning = model | plain(given.get("finetuning"))
        inner = plain(finetuning.get("w2v_args"))
        model = inner | plain(inner.get("model"))
    model = model | plain(given.get("model", given))
    if "loss_weights" in given:
        run["loss_weights"] = given["loss_weights"]
    for place in (finetuning, given, plain(given.get("task"))):
        if "normalize" not in run and "normalize" in place:
            run["normalize"] = place["normalize"]
    return state, model, finetuning, run


def literal(value):
    return ast.literal_eval(value) if isinstance(value, str) else value


def strides(text: str | None, layers: int) -> list[int]:
    """Strides of fairseq's `[(dim, kernel, stride)] + [...] * 4 + ...`; those of the paper if it is not there."""
    if text is None:
        paper = [5, 2, 2, 2, 2, 2, 2]
        if layers != len(paper):
            raise ConversionError(f"conv_feature_layers: not in the file, and {layers} layers are not the paper's 7")
        return paper
    found = []
    for block, times in re.findall(r"\[([^\]]*)\](?:\s*\*\s*(\d+))?", text):
        found += [int(stride) for stride in re.findall(r"\(\s*\d+\s*,\s*\d+\s*,\s*(\d+)\s*\)", block)] * int(
            times or 1
        )
    if len(found) != layers:
        raise ConversionError(
            f"conv_feature_layers={text!r}: {len(found)} layers, but the file has weights of {layers}"
        )
    return found


def infer_config(state: dict[str, Tensor], model: dict, finetuning: dict, run: dict) -> transformers.Wav2Vec2Config:
    """Sizes come from the tensors; what they do not show from the settings, or else from the paper's base model."""
    prefix = CTC if finetuning else ""
    convolutions = []
    while (key := f"{prefix}feature_extractor.conv_layers.{len(convolutions)}.0.weight") in state:
        convolutions.append(state[key])
    position = state.get(f"{prefix}encoder.pos_conv.0.weight_v")
    if position is None:
        position = state.get(f"{prefix}encoder.pos_conv.0.parametrizations.weight.original1")
    if position is None:
        raise ConversionError(f"{prefix}encoder.pos_conv.0.weight_v is missing")
    hidden_size = position.shape[0]
    layers = {
        int(match[1]) for key in state if (match := re.match(rf"{re.escape(prefix)}encoder\.layers\.(\d+)\.", key))
    }
    norm_everywhere = f"{prefix}feature_extractor.conv_layers.0.2.1.weight" in state
    activation = model.get("activation_fn", "gelu")
    if activation not in ACTIVATIONS:
        raise ConversionError(f"activation_fn={activation!r}: expected one of {', '.join(ACTIVATIONS)}")
    groups = model.get("latent_groups", 2)
    final_dim = model.get("final_dim") or 256
    codebook = state.get("quantizer.vars")
    fields = {
        "hidden_size": hidden_size,
        "num_hidden_layers": len(layers),
        "intermediate_size": state[f"{prefix}encoder.layers.0.fc1.weight"].shape[0],
        # head width 64 in all released sizes
        "num_attention_heads": model.get("encoder_attention_heads") or max(hidden_size // 64, 1),
        "hidden_act": ACTIVATIONS[activation],
        "conv_dim": [weight.shape[0] for weight in convolutions],
        "conv_kernel": [weight.shape[2] for weight in convolutions],
        "conv_stride": strides(model.get("conv_feature_layers"), len(convolutions)),
        "conv_bias": f"{prefix}feature_extractor.conv_layers.0.0.bias" in state,
        "feat_extract_norm": "layer" if norm_everywhere else "group",
        "do_stable_layer_norm": model.get("layer_norm_first", norm_everywhere),
        "num_conv_pos_embeddings": position.shape[2],
        "num_conv_pos_embedding_groups": hidden_size // position.shape[1],
        "num_codevector_groups": groups,
        "num_codevectors_per_group": model.get("latent_vars", 320)
        if codebook is None
        else codebook.shape[1] // groups,
        "codevector_dim": (model.get("latent_dim") or final_dim) if codebook is None else codebook.shape[2] * groups,
        "proj_codevector_dim": state["project_q.weight"].shape[0] if "project_q.weight" in state else final_dim,
        "num_negatives": model.get("num_negatives", 100),
        "contrastive_logits_temperature": model.get("logit_temp", 0.1),
    }
    dropouts = {
        "hidden_dropout": ("dropout", 0.1),
        "attention_dropout": ("attention_dropout", 0.1),
        "activation_dropout": ("activation_dropout", 0.0),
        "feat_proj_dropout": ("dropout_input", 0.0),
    }
    source = finetuning or model
    fields |= {ours: source.get(theirs, default) for ours, (theirs, default) in dropouts.items()}
    if finetuning:
        return transformers.Wav2Vec2Config(
            **fields,
            layerdrop=finetuning.get("layerdrop", 0.0),
            final_dropout=finetuning.get("final_dropout", 0.0),
            apply_spec_augment=finetuning.get("apply_mask", False),
            # above zero, so that there is a vector for masked frames: the file holds one
            mask_time_prob=finetuning.get("mask_prob") or 0.05,
            mask_time_length=finetuning.get("mask_length", 10),
            mask_feature_prob=finetuning.get("mask_channel_prob", 0.0),
            mask_feature_length=finetuning.get("mask_channel_length", 10),
            vocab_size=state["w2v_encoder.proj.weight"].shape[0],
            ctc_loss_reduction="sum",
            ctc_zero_infinity=run.get("zero_infinity", False),
        )
    start, end, decay = literal(model.get("latent_temp", (2.0, 0.5, 0.999995)))
    weights = literal(run.get("loss_weights")) or [0.1, 10.0]
    return Wav2Vec2Config(
        **fields,
        layerdrop=model.get("encoder_layerdrop", 0.0),
        feat_quantizer_dropout=model.get("dropout_features", 0.0),
        pretraining_mask_prob=model.get("mask_prob", 0.65),
        pretraining_mask_length=model.get("mask_length", 10),
        diversity_loss_weight=weights[0],
        # a single weight counts for all terms
        feature_penalty_weight=weights[-1],
        feature_grad_mult=model.get("feature_grad_mult", 1.0),
        gumbel_temperature=start,
        gumbel_temperature_end=end,
        gumbel_temperature_decay=decay,
    )


# -- conversion -------------------------------------------------------------------------------------------------------


def convert(checkpoint: dict, original_config: dict | None = None):
    """The model that the checkpoint holds: `Wav2Vec2ForPreTraining`, transformers' `Wav2Vec2ForCTC`, or
    `Wav2Vec2Model`.
    """
    state, settings, finetuning, run = read(checkpoint, original_config)
    config = infer_config(state, settings, finetuning, run)
    converted, dropped = convert_state_dict(state, CTC_RULES if finetuning else PRETRAINING_RULES)
    projection = "wav2vec2.feature_projection.projection."
    if projection + "weight" not in converted and config.conv_dim[-1] == config.hidden_size:
        # the original leaves the projection out where the sizes agree
        converted |= {
            projection + "weight": torch.eye(config.hidden_size),
            projection + "bias": torch.zeros(config.hidden_size),
        }
    if finetuning:
        model = transformers.Wav2Vec2ForCTC(config)
    elif "quantizer.codevectors" in converted:
        model = Wav2Vec2ForPreTraining(config)
        model.after_optimizer_step(updates(checkpoint))
        converted["gumbel_temperature"] = model.gumbel_temperature
    else:
        model = Wav2Vec2Model(config)
        converted = {key.removeprefix("wav2vec2."): value for key, value in converted.items()}
    load_converted(model, converted)
    if not finetuning:
        dropped |= {f"settings: {name}": why for name, why in NOT_CONVERTED.items() if settings.get(name)}
    model.conversion_report = dropped
    return model.eval()


def updates(checkpoint: dict) -> int:
    """Steps that the file was trained for, which say the quantiser's temperature."""
    history = checkpoint.get("optimizer_history") or [{}]
    return int(plain(history[-1]).get("num_updates") or 0)


def feature_extractor(checkpoint: dict, original_config: dict | None = None):
    """The extractor with the task's normalisation; for a recogniser whose symbols are known, with its tokenizer."""
    state, settings, finetuning, run = read(checkpoint, original_config)
    layer_norm = settings.get("extractor_mode") == "layer_norm" or any(
        key.endswith("conv_layers.0.2.1.weight") for key in state
    )
    extractor = Wav2Vec2FeatureExtractor(
        sampling_rate=run.get("sample_rate") or 16000,
        # every released model with layer norm in the convolutions hears normalised audio
        do_normalize=run.get("normalize", layer_norm),
        # trained with group norm means trained without masks: transformers' convention
        return_attention_mask=layer_norm,
    )
    if not finetuning:
        return extractor
    symbols = (original_config or {}).get("dictionary")
    size = state["w2v_encoder.proj.weight"].shape[0]
    if symbols is None and size == 4 + len(LETTERS) and run.get("labels", "ltr") == "ltr":
        symbols = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS]
    if symbols is None:
        return extractor
    if len(symbols) != size:
        raise ConversionError(f"dictionary: {len(symbols)} symbols, but the file has {size} outputs")
    return Recogniser(extractor, symbols)


class Recogniser:
    """What a recogniser needs beside its weights: extractor and tokenizer, saved as a `Wav2Vec2Processor`."""

    def __init__(self, extractor: Wav2Vec2FeatureExtractor, symbols: list[str]):
        # CTC's blank is symbol 0, which fairseq calls <s> and transformers <pad>
        self.extractor, self.symbols = extractor, ["<pad>", "<s>", *symbols[2:]]

    def save_pretrained(self, folder) -> None:
        vocabulary = Path(folder) / "vocab.json"
        vocabulary.write_text(json.dumps({symbol: number for number, symbol in enumerate(self.symbols)}))
        tokenizer = transformers.Wav2Vec2CTCTokenizer(vocabulary)
        transformers.Wav2Vec2Processor(self.extractor, tokenizer).save_pretrained(folder)
        self.extractor.save_pretrained(folder)


# -- parity -----------------------------------------------------------------------------------------------------------


def parity_outputs(case) -> dict[str, Tensor]:
    return globals()[f"{case.kind}_outputs"](case)


def features_outputs(case) -> dict[str, Tensor]:
    config = case.original_config
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=config["sample_rate"], do_normalize=config["normalize"])
    waves = [wave[:length] for wave, length in zip(case.inputs["waveform"], case.inputs["lengths"])]
    return dict(extractor(waves, sampling_rate=config["sample_rate"], return_attention_mask=True))


@torch.no_grad()
def encoder_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config)
    attention_mask = case.inputs.get("attention_mask")
    attention_mask = None if attention_mask is None else attention_mask.long()
    outputs = model.base_model(case.inputs["input_values"], attention_mask, output_hidden_states=True)
    results, keep = {}, 1
    if attention_mask is not None:
        results["feature_attention_mask"] = model.base_model.split_tokens(outputs.last_hidden_state, attention_mask)[2]
        # the case stores zeros at padded frames
        keep = results["feature_attention_mask"][..., None]
    results["last_hidden_state"] = outputs.last_hidden_state * keep
    results["extract_features"] = outputs.extract_features
    for k in case.wanted_after("hidden_states."):
        results[f"hidden_states.{k}"] = outputs.hidden_states[int(k)] * keep
    if case.wanted_after("quantizer."):
        groups = model.config.num_codevector_groups
        logits = model.quantizer.weight_proj(outputs.extract_features).unflatten(2, (groups, -1))
        one_hot, codes = gumbel_one_hot(logits, 1.0)
        codebook = model.quantizer.codevectors[0].unflatten(0, (groups, -1))
        results |= {"quantizer.codevectors": product_codevectors(one_hot, codebook), "quantizer.indices": codes}
    return results


encoder_padded_outputs = encoder_outputs


def pretraining_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config).train()
    # the case was made without any dropout
    model.config.layerdrop = 0.0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "k_proj"):
            module.dropout = 0.0
    model.after_optimizer_step(case.original_config["num_updates"])
    arguments = {
        "mask_time_indices": case.inputs["bool_masked_pos"],
        "sampled_negative_indices": case.inputs["sampled_negative_indices"],
        "gumbel_noise": case.inputs["gumbel_noise"],
    }
    results, config = {}, model.config
    penalty = config.feature_penalty_weight
    for name in ("_without_features_pen", ""):
        # one as weight shows the unweighted term even where the recipe leaves it out
        config.feature_penalty_weight = 0.0 if name else penalty
        model.zero_grad()
        outputs = model(case.inputs["input_values"], **arguments)
        mask = outputs.mask_time_indices.bool()
        # ours is for one masked frame, the authors' trainer divides by their number later
        (outputs.loss * mask.sum()).backward()
        # in double precision: the sum over frames is large, the tolerance is not relative to it
        terms = (outputs.contrastive_loss, outputs.diversity_loss, outputs.feature_penalty_loss)
        results[f"loss{name.replace('_', '.', 1)}"] = sum(term.detach().double() for term in terms) * mask.sum()
        grads = {ours: parameter.grad for ours, parameter in model.named_parameters() if parameter.grad is not None}
        for key in case.wanted_after(f"grad{name}."):
            results[f"grad{name}.{key}"] = original_tensor(key, PRETRAINING_RULES, grads.get).clone()
    config.feature_penalty_weight = 1.0
    unweighted = model(case.inputs["input_values"], **arguments).feature_penalty_loss
    batch = len(mask)

    # counted within the clip
    first = torch.arange(batch)[:, None, None] * mask.shape[1]
    logits = contrastive_logits(
        outputs.projected_states,
        outputs.projected_quantized_states,
        outputs.codes,
        (case.inputs["sampled_negative_indices"].long() - first).clamp(min=0),
        config.contrastive_logits_temperature,
    )

    def masked(values: Tensor) -> Tensor:
        return values[mask].unflatten(0, (batch, -1))

    return results | {
        "loss.contrastive": outputs.contrastive_loss * mask.sum(),
        "loss.diversity": outputs.diversity_loss / config.diversity_loss_weight * mask.sum(),
        "loss.features_pen": unweighted * mask.sum(),
        "prob_perplexity": outputs.prob_perplexity,
        "code_perplexity": outputs.code_perplexity,
        "projected_states": masked(outputs.projected_states),
        "projected_quantized_states": masked(outputs.projected_quantized_states),
        # the case counts time first
        "logits": masked(logits).transpose(0, 1).flatten(0, 1).clamp(min=-1e4),
    }


@torch.no_grad()
def ctc_outputs(case) -> dict[str, Tensor]:
    model = convert(case.checkpoint, case.original_config)
    values, attention_mask = case.inputs["input_values"], case.inputs["attention_mask"].long()
    labels, lengths = case.inputs["labels"].long(), case.inputs["label_lengths"]
    labels = labels.masked_fill(torch.arange(labels.shape[1]) >= lengths[:, None], -100)
    outputs = model(values, attention_mask, labels=labels, output_hidden_states=True)
    last = model.wav2vec2(values, attention_mask).last_hidden_state
    keep = model._get_feature_vector_attention_mask(last.shape[1], attention_mask)
    return {
        "logits": outputs.logits * keep[..., None],
        "last_hidden_state": last * keep[..., None],
        "feature_attention_mask": keep,
        "loss": outputs.loss,
    }


if __name__ == "__main__":
    print("wrote", conversion_command(convert, feature_extractor, description=__doc__))

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    AutoModelForAudioClassification,
    TrainerCallback,
    pipeline,
)

from hf_audio_ssl import EatConfig, EatFeatureExtractor, EatForAudioClassification, EatForPreTraining
from hf_audio_ssl.audio.io import load
from hf_audio_ssl.command_line import parse_finetuning
from hf_audio_ssl.data.corpus import Corpus, open_corpus
from hf_audio_ssl.registry import get_method, load_class
from hf_audio_ssl.training.finetuning import (
    EpochWeightedSampler,
    FinetuningArguments,
    FinetuningResult,
    FinetuningTrainer,
    add_lora,
    collate,
    encoder_layers,
    finetune,
    hold_out,
    layer_decay_groups,
    make_finetuning_arguments,
    run_finetuning,
    write_results,
)

RATE = 16000
NAMES = ["low", "middle", "high"]
ID2LABEL = dict(enumerate(NAMES))


class Tones(torch.utils.data.Dataset):
    """Three classes: sines of three pitches, of slightly different lengths, in a little noise."""

    def __init__(self, clips=24, multi_label=False):
        self.clips, self.multi_label = clips, multi_label

    def __len__(self):
        return self.clips

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        time = torch.arange(5000 + 100 * (index % 4)) / RATE
        label = index % 3
        wave = 0.3 * torch.sin(2 * math.pi * 300 * 2.0**label * time)
        wave = wave + 0.01 * torch.randn(len(time), generator=generator)
        return {"audio": wave, "label": torch.eye(3)[label] if self.multi_label else label, "index": index}


def config(**changes):
    sizes = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, num_mel_bins=32)
    decoder = dict(decoder_hidden_size=16, decoder_num_layers=1, decoder_groups=4, num_clones=2, max_time_patches=8)
    return EatConfig(**sizes, **decoder, id2label=ID2LABEL, **changes)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return EatForAudioClassification(config())


@pytest.fixture
def extractor():
    return EatFeatureExtractor(num_mel_bins=32, max_length=32, mean=-6.0, std=3.0)


def arguments(folder, **changes):
    values = dict(
        output_dir=str(folder), max_steps=40, per_device_train_batch_size=6, learning_rate=3e-3, logging_steps=10,
        report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", seed=0,
    )  # fmt: skip
    return FinetuningArguments(**(values | changes))


def losses(result):
    return [entry["loss"] for entry in result.history if "loss" in entry]


# what is optimised


def test_layer_decay_scales_each_block_and_leaves_the_rest(model):
    groups = layer_decay_groups(model, learning_rate=1.0, weight_decay=0.05, layer_decay=0.5)
    rate = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    assert len(rate) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for i, layer in enumerate(model.eat.layers):
        assert {rate[p] for p in layer.parameters()} == {0.5 ** (3 - i)}
    outside = [*model.eat.embeddings.parameters(), *model.norm.parameters(), *model.classifier.parameters()]
    assert {rate[p] for p in outside} == {1.0}
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_encoder_layers_of_a_native_model_are_found():
    ast = ASTForAudioClassification(ASTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2))
    assert len(encoder_layers(ast)) == 2
    assert encoder_layers(ast)[0] is next(m for m in ast.modules() if isinstance(m, torch.nn.ModuleList))[0]
    with pytest.raises(ValueError, match="Linear holds no nn.ModuleList"):
        encoder_layers(SimpleNamespace(base_model=torch.nn.Linear(2, 2)))


def test_lora_trains_adapters_and_head_only(model, tmp_path):
    peft_model = add_lora(model, arguments(tmp_path, lora=True, lora_rank=4))
    trained = {name for name, p in peft_model.named_parameters() if p.requires_grad}
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained if "lora_" in name} == {"q_proj", "v_proj"}
    assert all("lora_" in name or ".classifier." in name for name in trained)
    everywhere = add_lora(
        EatForAudioClassification(config()), arguments(tmp_path, lora=True, lora_targets=["all-linear"])
    )
    adapted = {
        name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in everywhere.named_parameters() if "lora_" in name
    }
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"}


# what is fed


def test_collate_pads_waveforms_and_keeps_their_lengths():
    clips = [{"audio": torch.ones(n), "label": torch.tensor(hot)} for n, hot in ((3, [1.0, 0, 1]), (5, [0.0, 0, 0]))]
    batch = collate(clips)
    assert batch["audio"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]] and batch["lengths"] == [3, 5]
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 0, 0]]


def test_weighted_sampler_follows_weights_and_epoch():
    weights = [1.0] * 90 + [9.0] * 10  # ten rare clips get half of the draws
    sampler = EpochWeightedSampler(weights, 20_000, seed=1)
    drawn = np.array(list(sampler))
    assert len(sampler) == len(drawn) == 20_000
    assert (drawn >= 90).mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(drawn, list(sampler))
    sampler.set_epoch(1)
    assert not np.array_equal(drawn, list(sampler))


def trainer(model, extractor, folder, **changes):
    args = arguments(folder, loss="cross_entropy", **changes)
    data = Tones()
    return FinetuningTrainer(
        model=model, args=args, train_dataset=data, processing_class=extractor,
        data_collator=collate,
    )  # fmt: skip


def test_augmentation_is_for_training_only(model, extractor, tmp_path):
    run = trainer(
        model, extractor, tmp_path, mixup_alpha=0.8, mixup_prob=1.0, specaug_ratio=0.5, roll=True, noise=True
    )
    batch = run.data_collator([run.train_dataset[i] for i in range(6)])
    plain = extractor([run.train_dataset[i]["audio"] for i in range(6)], sampling_rate=RATE)["input_values"]
    model.eval()
    inputs = run._prepare_inputs(dict(batch))
    assert torch.equal(inputs["input_values"], plain)
    first, second = (run.compute_loss(model, inputs) for _ in range(2))
    assert first == second == torch.nn.functional.cross_entropy(model(plain).logits, batch["labels"])
    model.train()
    assert not torch.equal(run._prepare_inputs(dict(batch))["input_values"], plain)  # rolled
    assert len({run.compute_loss(model, inputs).item() for _ in range(4)}) == 4
    assert torch.equal(inputs["input_values"], plain)  # augmenting wrote into no one else's tensor


def test_spectrograms_may_lose_more_mels_than_frames(model, extractor, tmp_path):
    features, targets = torch.ones(200, 50, 50), torch.eye(200)
    for changes, frames, mels in (
        (dict(specaug_ratio=0.2), 9, 9),
        (dict(specaug_ratio=0.2, specaug_mel_ratio=0.6), 9, 29),
        (dict(specaug_mel_ratio=0.6), 0, 29),
    ):
        hidden = trainer(model, extractor, tmp_path, **changes)._augment(features, targets)[0] == 0
        assert hidden.all(dim=2).sum(dim=1).max() == frames and hidden.all(dim=1).sum(dim=1).max() == mels


def test_mixup_leaves_its_share_of_batches_alone(model, extractor, tmp_path):
    run = trainer(model, extractor, tmp_path, mixup_alpha=0.8, mixup_prob=0.25)
    features, targets = torch.randn(4, 8, 8), torch.eye(4)
    mixed = sum(not torch.equal(run._augment(features, targets)[1], targets) for _ in range(2000))
    assert mixed / 2000 == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("name, expected", [("bce", "mean"), ("bce_per_label", "labels"), ("bce_per_clip", "clips")])
def test_losses_of_the_recipes(model, extractor, tmp_path, name, expected):
    run = trainer(model, extractor, tmp_path)
    run.args.loss = name
    batch = run._prepare_inputs(run.data_collator([run.train_dataset[i] for i in range(6)]))
    model.eval()
    total = torch.nn.functional.binary_cross_entropy_with_logits(
        model(batch["input_values"]).logits, torch.eye(3)[batch["labels"]], reduction="sum"
    )
    divisor = {"mean": 18, "labels": 6, "clips": 6}[expected]
    torch.testing.assert_close(run.compute_loss(model, batch), total / divisor)


def test_label_smoothing_applies_in_training_only(model, extractor, tmp_path):
    run = trainer(model, extractor, tmp_path, label_smoothing_factor=0.1)
    batch = run._prepare_inputs(run.data_collator([run.train_dataset[i] for i in range(6)]))
    logits = model(batch["input_values"]).logits
    for training, smoothing in ((True, 0.1), (False, 0.0)):
        model.train(training)  # the model has no dropout
        expected = torch.nn.functional.cross_entropy(logits, batch["labels"], label_smoothing=smoothing)
        torch.testing.assert_close(run.compute_loss(model, batch), expected)


# whole runs


def tiny_eat():
    return EatForAudioClassification(config())


def tiny_ast():
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_mel_bins=32)
    patches = dict(patch_size=8, frequency_stride=8, time_stride=8, max_length=32)
    dropout = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return ASTForAudioClassification(ASTConfig(**sizes, **patches, **dropout, num_labels=3))


@pytest.mark.parametrize("build", [tiny_eat, tiny_ast])
def test_gradient_accumulation_keeps_the_scale_of_loss_and_gradient(build, extractor, tmp_path):
    """Trainer multiplies the loss of models that take **kwargs by the accumulation steps unless told otherwise."""
    results = []
    for accumulation, batch_size in ((1, 12), (4, 3)):
        torch.manual_seed(0)
        fresh = build()
        args = arguments(
            tmp_path / str(accumulation), max_steps=2, logging_steps=1, max_grad_norm=1e9,
            per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        results.append(finetune(fresh, extractor, Tones(), args))
    whole, parts = (result.history for result in results)
    for key in ("loss", "grad_norm"):
        assert [e[key] for e in parts if key in e] == pytest.approx([e[key] for e in whole if key in e], rel=1e-3)


def test_full_fine_tuning_from_a_pretrained_folder_to_the_pipeline(extractor, tmp_path):
    torch.manual_seed(0)
    EatForPreTraining(config()).save_pretrained(tmp_path / "pretrained")
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "pretrained")
    args = arguments(tmp_path / "out", max_steps=60, layer_decay=0.8, specaug_ratio=0.2, eval_strategy="epoch")
    result = finetune(model, extractor, Tones(), args, eval_dataset=Tones(9))
    assert losses(result)[-1] < 0.5 * losses(result)[0]
    assert result.metrics["eval_accuracy"] == 1.0

    classifier = pipeline("audio-classification", model=str(tmp_path / "out"), top_k=3)
    assert classifier.model.config.problem_type == "single_label_classification"
    for index, name in enumerate(NAMES):
        answer = classifier(Tones()[index]["audio"].numpy())
        assert answer[0]["label"] == name
        assert sum(row["score"] for row in answer) == pytest.approx(1, abs=1e-4)


def test_lora_saves_an_adapter_and_an_equal_merged_model(model, extractor, tmp_path):
    from peft import PeftModel

    model.save_pretrained(tmp_path / "base")
    frozen = {name: p.clone() for name, p in model.named_parameters()}
    args = arguments(tmp_path / "out", lora=True, lora_targets=["all-linear"], learning_rate=1e-2)
    result = finetune(model, extractor, Tones(), args, eval_dataset=Tones(9))
    assert losses(result)[-1] < 0.5 * losses(result)[0]
    assert result.adapter_dir == tmp_path / "out" / "adapter"
    size = (result.adapter_dir / "adapter_model.safetensors").stat().st_size
    assert size < (tmp_path / "base" / "model.safetensors").stat().st_size / 2

    merged = pipeline("audio-classification", model=str(tmp_path / "out"))
    assert [merged(Tones()[i]["audio"].numpy())[0]["label"] for i in range(3)] == NAMES
    base = AutoModelForAudioClassification.from_pretrained(tmp_path / "base")
    for name, parameter in base.named_parameters():
        assert torch.equal(parameter, frozen[name])
    adapted = PeftModel.from_pretrained(base, result.adapter_dir).eval()
    features = extractor([Tones()[i]["audio"] for i in range(3)], sampling_rate=RATE)
    torch.testing.assert_close(adapted(**features).logits, merged.model(**features).logits, rtol=1e-4, atol=1e-4)


def test_multi_label_with_mixup_reports_mean_average_precision(model, extractor, tmp_path):
    args = arguments(tmp_path, loss="bce_per_label", mixup_alpha=0.8)
    result = finetune(model, extractor, Tones(multi_label=True), args, eval_dataset=Tones(9, multi_label=True))
    assert losses(result)[-1] < losses(result)[0]
    assert result.metrics["eval_mAP"] > 0.9 and result.metrics["eval_roc_auc"] > 0.9
    assert (
        pipeline("audio-classification", model=str(tmp_path)).model.config.problem_type == "multi_label_classification"
    )


def test_a_resumed_run_ends_with_the_same_weights(extractor, tmp_path):
    settings = dict(max_steps=8, mixup_alpha=0.8, specaug_ratio=0.3, roll=True, weighted_sampling=True)
    settings |= dict(save_strategy="steps", save_steps=4, per_device_train_batch_size=4)
    states = []
    for resume in (None, str(tmp_path / "checkpoint-4")):
        torch.manual_seed(0)
        fresh = EatForAudioClassification(config(drop_path_rate=0.2))
        args = arguments(tmp_path, resume_from_checkpoint=resume, **settings)
        finetune(fresh, extractor, Tones(12), args, sample_weights=[1.0] * 11 + [5.0])
        states.append(fresh.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_wrong_arguments_are_named(model, extractor, tmp_path):
    for wrong, message in [
        (dict(loss="hinge"), "loss.*cross_entropy.*hinge"),
        (dict(specaug_ratio=1.5), "specaug_ratio.*1.5"),
        (dict(specaug_mel_ratio=-1.0), "specaug_mel_ratio.*-1.0"),
        (dict(lora=True, layer_decay=0.5), "layer_decay"),
        (dict(samples_per_epoch=5), "samples_per_epoch.*weighted_sampling.*got 5"),
        (dict(samples_per_epoch=0, weighted_sampling=True), "samples_per_epoch.*got 0"),
        (dict(remove_unused_columns=True), "remove_unused_columns. must be False"),
        (dict(data_options={"splitt": "a"}), "data_options: unknown splitt; expected some of config"),
    ]:
        with pytest.raises(ValueError, match=message):
            arguments(tmp_path, **wrong)
    with pytest.raises(ValueError, match="bce"):
        finetune(model, extractor, Tones(multi_label=True), arguments(tmp_path, loss="cross_entropy"))
    with pytest.raises(ValueError, match="label_smoothing_factor.*cross_entropy.*0.1 with loss='bce'"):
        finetune(model, extractor, Tones(), arguments(tmp_path, loss="bce", label_smoothing_factor=0.1))


# From names and recipes


RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*/finetune_*.yaml")), ids=lambda path: path.stem)
def test_recipes_hold_arguments_and_fields_that_exist(recipe, tmp_path):
    args = make_finetuning_arguments({"output_dir": str(tmp_path), "bf16": False, "use_cpu": True}, recipe)
    method = get_method(recipe.parent.name)
    fields = load_class(method, "AutoConfig")().to_dict()
    assert not (args.config_overrides or {}).keys() - fields.keys()
    assert all(hasattr(load_class(method, "AutoFeatureExtractor")(), name) for name in args.feature_overrides or {})
    assert args.warmup_steps < args.max_steps


def test_values_override_the_recipe_key_by_key(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: {drop_path_rate: 0.1, label_smoothing: 0.2}\nfeatures: {max_length: 64}\n"
        "data: {dataset: synthetic, clip_seconds: 1.0, num_clips: 8}\ntraining: {learning_rate: 3e-4, max_steps: 5}\n"
    )
    given = {
        "output_dir": str(tmp_path),
        "use_cpu": True,
        "max_steps": 7,
        "config_overrides": {"drop_path_rate": 0.3},
    }
    args = make_finetuning_arguments(given, recipe)
    assert args.config_overrides == {"drop_path_rate": 0.3, "label_smoothing": 0.2}
    assert (args.dataset, args.clip_seconds, args.data_options) == ("synthetic", 1.0, {"num_clips": 8})
    assert (args.learning_rate, args.max_steps) == (3e-4, 7)  # YAML reads 3e-4 as text
    with pytest.raises(ValueError, match="learning_rat"):
        make_finetuning_arguments({**given, "learning_rat": 1.0}, recipe)
    recipe.write_text("optimizer: {lr: 1}\n")
    with pytest.raises(ValueError, match="optimizer.*model, features, data, training"):
        make_finetuning_arguments(given, recipe)


def test_overrides_of_a_command_line_do_what_the_recipe_does(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {dataset: a, clip_seconds: null, num_clips: 8}\ntraining: {max_steps: 1e2}\n")

    def parse(*argv):
        return parse_finetuning(["--recipe", str(recipe), "--output_dir", str(tmp_path), "--use_cpu", *argv])

    args = parse()
    assert (args.dataset, args.clip_seconds, args.data_options) == ("a", None, {"num_clips": 8})
    assert args.max_steps == 100 and isinstance(args.max_steps, int)
    args = parse(
        "--set", "data.dataset=b", "data.clip_seconds=2.5", "data.eval_split=test", "data.train_split=train",
        "data.config=en", "model.layer_norm_eps=1e-5", "--set", "features.mean=-1",
    )  # fmt: skip
    assert (args.dataset, args.clip_seconds, args.train_split, args.eval_split) == ("b", 2.5, "train", "test")
    assert args.data_options == {"num_clips": 8, "config": "en"}
    assert args.config_overrides == {"layer_norm_eps": 1e-5} and args.feature_overrides == {"mean": -1}
    assert parse("--set", "data.dataset=b", "--dataset", "c").dataset == "c"
    for wrong in (["--set", "data.split=train"], ["--set", "data.gain_db=3"]):
        with pytest.raises(ValueError, match="data: unknown (split|gain_db); expected some of dataset, train_split"):
            parse(*wrong)
    for wrong in (["--data_options", "{}"], ["--config-overrides", "{}"], ["--set", "probe.pool=cls"]):
        with pytest.raises(SystemExit):
            parse(*wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "recipe.yaml' cannot be read: No such file"),
        ("[1, 2]", "recipe.yaml': expected blocks .* got list"),
        ("training: 3", "recipe.yaml': `training:` must hold names and values, got 3"),
        ("training: {max_steps: many}", "max_steps='many': expected int"),
        ("training: {learning_rate: fast}", "learning_rate='fast': expected float"),
        ("data: {clip_seconds: long}", "clip_seconds='long': expected float or nothing"),
        ("data: [", "recipe.yaml' is not YAML"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        make_finetuning_arguments({"output_dir": str(tmp_path), "use_cpu": True}, tmp_path / "recipe.yaml")


def test_hold_out_keeps_groups_whole_and_classes_even():
    labels = [0, 1] * 30
    groups = [name for name in ("ann", "ben", "cyd", "dot", "eve") for _ in range(12)]
    train, held = hold_out(Corpus(range(60), labels, ("a", "b"), groups), 0.2, seed=1)
    assert len(held) == 12 and len({groups[i] for i in held}) == 1 and not set(train) & set(held)
    train, held = hold_out(Corpus(range(60), labels, ("a", "b")), 0.2, seed=1)
    assert [labels[i] for i in held].count(0) == [labels[i] for i in held].count(1) == 6
    assert sorted([*train, *held]) == list(range(60))
    with pytest.raises(ValueError, match="empty"):
        hold_out(Corpus(range(4), [0] * 4, ("a",), ["one"] * 4), 0.5)


@pytest.fixture
def pretrained(extractor, tmp_path):
    torch.manual_seed(0)
    EatForPreTraining(config()).save_pretrained(tmp_path / "pretrained")
    extractor.save_pretrained(tmp_path / "pretrained")
    return str(tmp_path / "pretrained")


def test_fine_tuning_by_names_on_the_synthetic_corpus(pretrained, tmp_path):
    args = arguments(
        tmp_path / "out", model=pretrained, dataset="synthetic", train_split="train", eval_split="test", max_steps=60,
        data_options={"num_clips": 36}, clip_seconds=1.9, weighted_sampling=True, lora=True, learning_rate=5e-3,
        lora_targets=["all-linear"], per_device_train_batch_size=12, cache_audio=True,
        config_overrides={"max_time_patches": 16}, feature_overrides={"max_length": 192},
    )  # fmt: skip
    result = run_finetuning(args)
    assert losses(result)[-1] < 0.95 * losses(result)[0]
    records = json.loads((tmp_path / "out" / "results.json").read_text())
    assert records[0]["metric"] == "accuracy" and records[0]["value"] == round(result.metrics["eval_accuracy"], 4)
    classifier = pipeline("audio-classification", model=str(tmp_path / "out"))
    assert classifier.feature_extractor.max_length == 192 and classifier.model.config.max_time_patches == 16
    corpus = open_corpus("synthetic", num_clips=16)
    assert set(classifier.model.config.id2label.values()) == set(corpus.label_names)
    wave, _ = load(corpus[0]["audio"], RATE)
    assert classifier(wave)[0]["label"] in corpus.label_names


def test_wrong_names_are_errors(pretrained, tmp_path):
    data = dict(dataset="synthetic", data_options={"num_clips": 32})
    for wrong, message in [
        (dict(model=None), "`model` must be given"),
        (dict(config_overrides={"hiden_size": 3}), "EatConfig has no hiden_size"),
        (dict(feature_overrides={"mels": 3}), "EatFeatureExtractor has no mels"),
        (dict(config_overrides={"label_smoothing": 0.1}), "label_smoothing follows from .*label_smoothing_factor"),
        (dict(config_overrides={"classifier_loss_reduction": "labels"}), "loss_reduction follows from .*`loss`"),
    ]:
        with pytest.raises(ValueError, match=message):
            run_finetuning(arguments(tmp_path / "out", **(dict(model=pretrained) | data | wrong)))
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", np.zeros(8000), RATE)
    with pytest.raises(ValueError, match="no labels"):
        run_finetuning(arguments(tmp_path / "out", model=pretrained, dataset=str(tmp_path / "audio")))


def test_an_evaluation_folder_may_lack_classes(pretrained, tmp_path):
    rng = np.random.default_rng(0)
    for split, names in (("train", "abc"), ("test", "c"), ("other", "z")):
        for name in names:
            (tmp_path / "audio" / split / name).mkdir(parents=True)
            for i in range(2):
                soundfile.write(tmp_path / "audio" / split / name / f"{i}.wav", rng.normal(0, 0.1, 5000), RATE)
    how = dict(model=pretrained, dataset=str(tmp_path / "audio"), train_split="train", max_steps=1)
    result = run_finetuning(arguments(tmp_path / "out", eval_split="test", **how))
    assert AutoModelForAudioClassification.from_pretrained(result.output_dir).config.id2label == dict(enumerate("abc"))
    with pytest.raises(ValueError, match="classes that the training split lacks: z"):
        run_finetuning(arguments(tmp_path / "out", eval_split="other", **how))


def write_clips(folder, lengths):
    """Noise of these samples, in turn of the classes a and b."""
    rng = np.random.default_rng(0)
    for number, length in enumerate(lengths):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "ab"[number % 2] / f"{number}.wav", rng.normal(0, 0.1, length), RATE)
    return folder


def test_unreadable_clips_are_listed_and_do_not_count_in_the_evaluation(pretrained, tmp_path):
    audio = tmp_path / "audio"
    write_clips(audio / "train", [5000] * 11 + [200])  # the last one is shorter than a window
    write_clips(audio / "test", [5000] * 20)
    (audio / "test/a/4.wav").write_bytes(b"no audio")
    args = arguments(
        tmp_path / "out", model=pretrained, dataset=str(audio), train_split="train", eval_split="test", max_steps=4,
        lora=True, lora_merge=False, loss="bce_per_clip",
    )  # fmt: skip
    seen = []

    class Count(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            seen.append(kwargs["eval_dataloader"].dataset)

    with pytest.warns(UserWarning, match="skipped .*4.wav"):
        result = run_finetuning(args, callbacks=[Count()])
    assert [clip["index"] for clip in seen[0]] == [
        i for i, p in enumerate(open_corpus(audio / "test").sources) if "a/4.wav" not in p
    ]
    assert result.metrics["eval_accuracy"] * 19 == pytest.approx(round(result.metrics["eval_accuracy"] * 19))
    listed = [json.loads(line)["path"] for line in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert sorted(Path(path).name for path in listed) == ["11.wav", "4.wav"]

    # results and adapter, as a card takes them
    (record,) = json.loads((tmp_path / "out/adapter/results.json").read_text())
    assert record["dataset"] == "audio" and "base_model" not in record
    assert not (tmp_path / "out/config.json").exists()


def test_the_saved_model_computes_the_loss_it_was_trained_with(model, extractor, tmp_path):
    finetune(model, extractor, Tones(), arguments(tmp_path / "bce", max_steps=1, loss="bce_per_clip"))
    saved = EatForAudioClassification.from_pretrained(tmp_path / "bce").config
    assert saved.classifier_loss_reduction == "batch" and saved.problem_type == "multi_label_classification"
    finetune(model, extractor, Tones(), arguments(tmp_path / "ce", max_steps=1, label_smoothing_factor=0.1))
    saved = EatForAudioClassification.from_pretrained(tmp_path / "ce").config
    assert (saved.classifier_loss_reduction, saved.label_smoothing) == ("mean", 0.1)


def test_long_clips_are_cropped_at_random_to_what_the_extractor_keeps(pretrained, extractor, tmp_path):
    audio, crops = write_clips(tmp_path / "audio", [20_000] * 8), {}

    class Look(TrainerCallback):
        def on_epoch_end(self, args, state, control, train_dataloader=None, eval_dataloader=None, **kwargs):
            clip = train_dataloader.dataset[0]["audio"]
            assert extractor.num_frames(len(clip)) == extractor.max_length
            crops[round(state.epoch)] = clip[:100].sum().item()

    run_finetuning(
        arguments(
            tmp_path / "out", model=pretrained, dataset=str(audio), max_steps=6, per_device_train_batch_size=3,
            eval_share=0.25,
        ),
        callbacks=[Look()],
    )  # fmt: skip
    assert len(crops) == len(set(crops.values())) == 3


def test_crops_of_two_processes_change_with_the_epoch(pretrained, tmp_path):
    write_clips(tmp_path / "audio", [20_000] * 8)
    script = Path(__file__).with_name("crops.py")
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[2])}
    done = subprocess.run(
        [sys.executable, *two, str(script), str(pretrained), str(tmp_path / "audio"), str(tmp_path / "out")],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"out/crops-{rank}.json").read_text()) for rank in range(2))
    assert first == second and len(set(first)) == 3


def test_results_name_the_data_set_and_the_model_of_the_hub(tmp_path):
    values = dict(dataset="openslr/librispeech_asr", model="somebody/eat-base", eval_split="test")
    write_results(
        FinetuningResult(tmp_path, {"eval_accuracy": 0.5}, []), arguments(tmp_path, **values), "task", ["accuracy"]
    )
    (record,) = json.loads((tmp_path / "results.json").read_text())
    assert record["dataset"] == "openslr/librispeech_asr" and record["base_model"] == "somebody/eat-base"

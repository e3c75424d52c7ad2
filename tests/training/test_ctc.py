# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Speech recognition on words of two tones, by a small wav2vec 2.0."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers

from hf_audio_ssl import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining
from hf_audio_ssl.command_line import parse_finetuning
from hf_audio_ssl.registry import get_method, load_class, methods
from hf_audio_ssl.testing.mixins import find_testers
from hf_audio_ssl.training.ctc import CTCArguments, make_tokenizer, run_ctc, spoken
from hf_audio_ssl.training.finetuning import make_finetuning_arguments

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
RATE = 8000
TONES = {"a": 300, "b": 1100}
WORDS = {"1": "ab", "2": "ba", "3": "BAB!"}


def word(text, seed):
    rng = np.random.default_rng(seed)
    time = np.arange(int(rng.uniform(0.06, 0.1) * RATE)) / RATE
    gap = np.zeros(int(0.03 * RATE))
    parts = [part for letter in text for part in (0.3 * np.sin(2 * np.pi * TONES[letter] * time), gap)]
    return (np.concatenate(parts) + 0.01 * rng.standard_normal(len(np.concatenate(parts)))).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    for label, text in WORDS.items():
        for speaker in range(4):
            for take in range(6):
                wave = word([letter for letter in text.lower() if letter in TONES], (int(label), speaker, take))
                soundfile.write(folder / f"{label}_s{speaker}_{take}.wav", wave, RATE)
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    model = Wav2Vec2ForPreTraining(
        Wav2Vec2Config(
            hidden_size=48, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, conv_dim=(32, 32, 32),
            conv_kernel=(10, 8, 4), conv_stride=(5, 8, 2), feat_extract_norm="layer", num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=4, num_codevectors_per_group=8, codevector_dim=16, proj_codevector_dim=16,
            layerdrop=0.0, hidden_dropout=0.0, activation_dropout=0.0, attention_dropout=0.0, feat_proj_dropout=0.0,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=RATE, min_length=130).save_pretrained(folder)
    return folder


def arguments(corpus, pretrained, output_dir, **changes):
    values = dict(
        model=str(pretrained), dataset=str(corpus), output_dir=str(output_dir), words=WORDS, use_cpu=True,
        data_options={"label_pattern": "(?P<label>[0-9])_(?P<group>s[0-9])"}, per_device_train_batch_size=16,
        learning_rate=3e-3, max_steps=200, report_to="none", save_strategy="no", disable_tqdm=True, seed=0,
        config_overrides={"apply_spec_augment": False}, freeze_feature_encoder=False, cache_audio=True,
    )  # fmt: skip
    return CTCArguments(**(values | changes))


@pytest.fixture(scope="module")
def recogniser(corpus, pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recogniser")
    return folder, run_ctc(arguments(corpus, pretrained, folder))


def hear(folder, *texts):
    recognise = transformers.pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    return [recognise(word(text, 99))["text"] for text in texts]


def test_words_are_recognised_and_the_pipeline_writes_them(recogniser):
    folder, result = recogniser
    assert result.metrics["eval_wer"] < 0.15, result.metrics
    assert hear(folder, "ab", "ba") == ["ab", "ba"]
    records = json.loads((folder / "results.json").read_text())
    assert [record["metric"] for record in records] == ["wer", "cer"]
    assert type(transformers.AutoProcessor.from_pretrained(folder)).__name__ == "Wav2Vec2Processor"


def test_lora_learns_other_transcripts(corpus, recogniser, tmp_path):
    """The two tones change their letters; what was learned stays frozen under the adapters."""
    folder, _ = recogniser
    words = {"1": "ba", "2": "ab", "3": "aba"}
    targets = ["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]
    changes = dict(
        lora=True, lora_targets=targets, lora_rank=16, lora_alpha=32, learning_rate=5e-3, warmup_steps=20,
        max_steps=300, save_strategy="steps", save_steps=100,
    )  # fmt: skip
    result = run_ctc(arguments(corpus, folder, tmp_path, words=words, **changes))
    assert result.metrics["eval_wer"] < 0.15 and hear(tmp_path, "ab", "ba") == ["ba", "ab"]
    files = {path.name for path in result.adapter_dir.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "vocab.json", "results.json"} <= files
    assert (tmp_path / "checkpoint-100").is_dir()


@pytest.mark.parametrize("method", [name for name, spec in methods().items() if "AutoModelForCTC" in spec.classes])
def test_every_method_with_a_recogniser(corpus, tmp_path, method):
    tester = find_testers(ROOT / "tests/models")[method]
    tester.model("AutoModelForPreTraining").save_pretrained(tmp_path / "pretrained")
    extractor = type(tester.feature_extractor())(**(tester.extractor_sizes | {"sampling_rate": RATE}))
    extractor.save_pretrained(tmp_path / "pretrained")
    changes = dict(max_steps=2, config_overrides=None, lora=True)
    if method == "wav2vec2":
        changes["config_overrides"] = {"apply_spec_augment": False}
    result = run_ctc(arguments(corpus, tmp_path / "pretrained", tmp_path / "out", **changes))
    assert result.metrics["eval_loss"] > 0 and 0 <= result.metrics["eval_cer"]
    loaded = transformers.AutoModelForCTC.from_pretrained(tmp_path / "out")
    assert loaded.config.vocab_size == 5 + 2


def test_only_the_head_learns_at_first_and_the_rate_has_three_stages(corpus, pretrained, tmp_path):
    steps = 20
    result = run_ctc(
        arguments(
            corpus, pretrained, tmp_path, max_steps=steps, head_only_steps=steps, logging_steps=1,
            freeze_feature_encoder=True, warmup_steps=5, hold_share=0.5, final_lr_scale=0.1, learning_rate=1e-2,
        )
    )  # fmt: skip
    before = transformers.Wav2Vec2ForCTC.from_pretrained(pretrained)
    after = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path)
    moved = {k for k, v in after.wav2vec2.state_dict().items() if not (v == before.wav2vec2.state_dict()[k]).all()}
    assert not moved
    losses = [record["loss"] for record in result.history if "loss" in record]
    assert losses[-1] < losses[0]


def test_transcripts_are_what_is_spoken(tmp_path):
    assert spoken("  Don't PANIC, (he said)  ", r"[^\w' ]") == "don't panic he said"
    tokenizer = make_tokenizer(["a bab", "cab"], tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text()).keys() == {*"abc|", "<pad>", "<s>", "</s>", "<unk>"}
    assert tokenizer.decode(tokenizer("a bab").input_ids, group_tokens=False) == "a bab"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": {"1": "ab"}}, "words: no entry for 2, 3; there are entries for 1"),
        ({"drop_characters": "."}, "leaves nothing of"),
        ({"data_options": {}}, "has no labels"),
        ({"model": None}, "`model` must be given"),
        ({"config_overrides": {"nonsense": 1}}, "has no nonsense"),
        ({"config_overrides": {"vocab_size": 9}}, "vocab_size follows from the argument `dataset`"),
        ({"feature_overrides": {"nonsense": 1}}, "Wav2Vec2FeatureExtractor has no nonsense"),
        ({"data_options": {"nonsense": 1}}, "data_options: unknown nonsense"),
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` does not exist for CTC, got 0.1"),
        ({"lr_scheduler_type": "linear"}, "the schedule is tri_stage, .* got lr_scheduler_type='linear'"),
    ],
)
def test_bad_arguments(corpus, pretrained, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run_ctc(arguments(corpus, pretrained, tmp_path, **changes))
    with pytest.raises(ValueError, match="`hold_share` must lie between 0 and 1"):
        CTCArguments(output_dir=str(tmp_path), hold_share=2)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*/ctc_*.yaml")), ids=lambda path: path.stem)
def test_recipes_hold_arguments_and_fields_that_exist(recipe, tmp_path):
    args = make_finetuning_arguments(
        {"output_dir": str(tmp_path), "fp16": False, "use_cpu": True}, recipe, CTCArguments
    )
    fields = load_class(get_method(recipe.parent.name), "AutoConfig")().to_dict()
    assert not (args.config_overrides or {}).keys() - fields.keys()
    assert args.head_only_steps <= args.max_steps and (args.words is None or args.words["7"] == "seven")


def test_recipe_and_command_line(tmp_path):
    recipe = tmp_path / "ctc.yaml"
    recipe.write_text('data:\n  label_pattern: "(?P<label>.)"\ntraining:\n  words: {"1": one}\n  use_cpu: true\n')
    args = parse_finetuning(
        ["--recipe", str(recipe), "--model", "m", "--dataset", "d", "--output_dir", str(tmp_path), "--max_steps", "7"],
        kind=CTCArguments,
    )
    assert isinstance(args, CTCArguments) and args.words == {"1": "one"} and args.max_steps == 7
    assert args.data_options == {"label_pattern": "(?P<label>.)"}

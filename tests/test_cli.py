# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The command line: what a user gets wrong is one message and exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hf_audio_ssl import EatConfig, EatFeatureExtractor, EatForPreTraining
from hf_audio_ssl.cli import main

ROOT = Path(__file__).parents[1]
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_clones": 2,
    "decoder_hidden_size": 16, "decoder_num_layers": 1, "decoder_groups": 4, "max_time_patches": 4,
}  # fmt: skip
RATE = 16000


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for label in "ab":
        (folder / label).mkdir()
        for number in range(5):
            soundfile.write(folder / label / f"{number}.wav", rng.normal(0, 0.1, 8000), RATE)
    return str(folder)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    EatForPreTraining(EatConfig(**SIZES)).save_pretrained(folder)
    EatFeatureExtractor(max_length=64).save_pretrained(folder)
    return str(folder)


def pretrain(audio, output_dir, *more):
    sizes = [f"model.{name}={value}" for name, value in SIZES.items()]
    return main(
        ["pretrain", "--method", "eat", "--dataset", audio, "--output_dir", str(output_dir), "--max_steps", "1",
         "--per_device_batch_size", "2", "--set", *sizes, "features.max_length=48", *more]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.hidden_size=abc"], "hidden_size"),
        (["model.hidden_size=[1"], "--set model.hidden_size=[1: '[1' is not YAML"),
        (["data.label_pattern=("], "'(' is no regular expression: missing )"),
        (["data.max_skipped_share=0.0", "data.min_seconds=0.4", "--clip_seconds", "9"], "max_skipped_share=0 allows"),
        (["probe.dataset=synthetic", "probe.probes=[svm]"], "probes: unknown svm"),
    ],
)
def test_mistakes_in_a_pretraining_command(audio, tmp_path, capsys, more, message):
    if "max_skipped_share" in more[0]:
        audio = str(tmp_path / "short")
        Path(audio).mkdir()
        soundfile.write(f"{audio}/short.wav", np.zeros(1000), RATE)
    assert pretrain(audio, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err.splitlines()
    assert any(line.startswith("hf-audio-ssl pretrain: ") for line in error) and message in "\n".join(error)


def test_a_run_that_is_there_is_not_mixed_with_another(audio, tmp_path, capsys):
    assert pretrain(audio, tmp_path / "out") == 0
    for more, message in (
        (["--resume", "never"], "resume='never', but "),
        (["--seed", "3"], "training.seed was 0, is 3"),
    ):
        assert pretrain(audio, tmp_path / "out", *more) == 2
        assert message in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_with_a_message(audio, tmp_path, capsys):
    settings = ["features.std=1.0e-45", "--max_nan_steps", "1"]
    assert pretrain(audio, tmp_path / "out", *settings) == 2
    assert "hf-audio-ssl pretrain: loss or gradients were not finite for 1 steps" in capsys.readouterr().err


def test_mistakes_in_what_reads_a_model(audio, pretrained, tmp_path, capsys):
    extract = ["extract", "--model", pretrained, "--output", str(tmp_path / "x.npz"), "--dataset", audio]
    assert main([*extract, "--layers", "99"]) == 2
    assert "layers: got [99], expected one or several of -2 to 1" in capsys.readouterr().err
    assert main([*extract, "--label_pattern", "("]) == 2
    assert "'(' is no regular expression" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*extract, "--device", "foo"])
    assert "argument --device: 'foo' cannot be used" in capsys.readouterr().err
    assert main([*extract, "--layers", "-2", "1", "--device", "cpu"]) == 0
    finetune = ["finetune", "--model", pretrained, "--dataset", audio, "--output_dir", str(tmp_path), "--use_cpu"]
    assert main([*finetune, "--remove_unused_columns", "True"]) == 2
    assert "`remove_unused_columns` must be False" in capsys.readouterr().err


def test_fine_tuning_says_which_folders_there_are(audio, pretrained, tmp_path, capsys):
    command = ["finetune", "--model", pretrained, "--dataset", audio, "--max_steps", "1", "--use_cpu"]
    command += ["--report_to", "none", "--save_strategy", "no", "--lora"]
    assert main([*command, "--output_dir", str(tmp_path / "one"), "--no_lora_merge"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"adapter: {tmp_path / 'one/adapter'}"
    assert main([*command, "--output_dir", str(tmp_path / "two")]) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1] == f"model: {tmp_path / 'two'}, adapter: {tmp_path / 'two/adapter'}"
    )


def test_statistics_are_of_the_features_of_the_recipe(audio, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "method: audiomae\nfeatures: {sampling_rate: 8000, num_mel_bins: 64}\ndata: {include: '[0-2]'}\n"
    )

    def stats(*more):
        assert main(["stats", "--dataset", audio, "--json", *more]) == 0
        return json.loads(capsys.readouterr().out)

    plain, own = stats(), stats("--recipe", str(recipe))
    assert (plain["clips"], own["clips"]) == (10, 6) and abs(own["mean"] - plain["mean"]) > 0.05
    given = ["features.sampling_rate=8000", "features.num_mel_bins=64"]
    assert stats("--method", "audiomae", "--include", "[0-2]", "--set", *given) == own
    for more, message in (
        (["--set", "features.mels=3"], "unknown mels"),
        (["--recipe", str(recipe), "--method", "eat"], "is for 'audiomae'"),
    ):
        assert main(["stats", "--dataset", audio, *more]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run_pretraining", "run_ctc", "run_beats"])
def test_mistakes_in_the_examples(tmp_path, name):
    recipes = ["--recipe", str(tmp_path / "none.yaml"), "--output_dir", str(tmp_path)]
    recipes += ["--tokenizer_recipe", str(tmp_path / "none.yaml")] if name == "run_beats" else []
    command = [sys.executable, str(ROOT / f"examples/{name}.py"), *recipes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(
        "none.yaml' cannot be read: No such file or directory"
    )
    assert "Traceback" not in done.stderr

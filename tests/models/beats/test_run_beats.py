# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""examples/run_beats.py: the iterations as one command that goes on where it stopped."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hf_audio_ssl import BeatsForPreTraining, BeatsTokenizer
from hf_audio_ssl.testing.parity import load_script

ROOT = Path(__file__).parents[3]
STAGES = ("iteration1", "tokenizer2", "iteration2")
MODEL = dict(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_mel_bins=32,
    patch_hidden_size=8, position_kernel_size=4, position_groups=2, num_position_buckets=8, max_position_distance=8,
    predictor_num_layers=1, codebook_size=8, codebook_dim=4,
)  # fmt: skip
TOKENIZER = dict(codebook_size=6, codebook_dim=4, estimator_num_layers=1)
TRAINING = dict(
    max_steps=4, save_steps=2, per_device_batch_size=4, clip_seconds=0.5, logging_steps=1, save_total_limit=3
)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs the program on eight synthetic clips; returns its output folder."""
    folder = tmp_path_factory.mktemp("recipes")
    recipe = {"method": "beats", "model": MODEL, "features": {"num_mel_bins": 32, "max_length": 48}}
    tokenizer = {"method": "beats", "model": TOKENIZER}
    for name, content in (("recipe", recipe), ("tokenizer_recipe", tokenizer)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content | {"training": TRAINING}))
    program = load_script(ROOT / "examples/run_beats.py")

    def run(output_dir, *arguments):
        program.main(
            ["--recipe", str(folder / "recipe.yaml"), "--tokenizer_recipe", str(folder / "tokenizer_recipe.yaml"),
             "--dataset", "synthetic", "--output_dir", str(output_dir), "--cpu_threads", "1",
             "--set", "data.num_clips=8", *arguments]
        )  # fmt: skip
        return output_dir

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        yield run


@pytest.fixture(scope="module")
def calm(command, tmp_path_factory):
    return command(tmp_path_factory.mktemp("calm") / "run")


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same(first, second):
    for stage in STAGES:
        one, two = (load_file(folder / stage / "model.safetensors") for folder in (first, second))
        assert one.keys() == two.keys()
        assert [name for name in one if not torch.equal(one[name], two[name])] == [], stage
        assert steps(first / stage) == steps(second / stage) == [1, 2, 3, 4]


def test_each_stage_learns_from_the_last(calm):
    first, tokenizer, second = (load_file(calm / stage / "model.safetensors") for stage in STAGES)
    for name, value in first.items():
        if name.startswith("beats."):
            assert torch.equal(tokenizer[name.replace("beats.", "teacher.", 1)], value)
    learned = BeatsTokenizer.from_pretrained(calm / "tokenizer2")
    assert learned.quantizer.codebook.norm(dim=1).sub(1).abs().max() < 1e-5
    for name, value in learned.state_dict().items():
        assert torch.equal(second[f"tokenizer.{name}"], value), name
    model = BeatsForPreTraining.from_pretrained(calm / "iteration2")
    assert model.config.codebook_size == 6 and model.predictor.classifier.out_features == 6
    assert not any(p.requires_grad for p in model.tokenizer.parameters())


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("left", ["nothing", "half of it", "all but the copy of the model"])
def test_goes_on_where_it_was_killed(command, calm, tmp_path, stage, left):
    """A kill leaves the stages before whole, and of this one the checkpoints written so far."""
    folder = tmp_path / "run"
    shutil.copytree(calm, folder)
    later = STAGES[STAGES.index(stage) + 1 :] + ((stage,) if left == "nothing" else ())
    for name in later:
        shutil.rmtree(folder / name)
    if left != "nothing":
        (folder / stage / "model.safetensors").unlink()
    if left == "half of it":
        shutil.rmtree(folder / stage / "checkpoint-00000004")
    assert_same(command(folder), calm)


def test_a_finished_run_is_left_as_it_is(command, calm, tmp_path):
    folder = shutil.copytree(calm, tmp_path / "run")
    assert_same(command(folder), calm)
    command(folder, "--iterations", "3")
    assert steps(folder / "iteration3") == [1, 2, 3, 4]
    second, tokenizer = (load_file(folder / stage / "model.safetensors") for stage in ("iteration2", "tokenizer3"))
    name = "encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(tokenizer[f"teacher.{name}"], second[f"beats.{name}"])


def test_a_model_may_stand_in_for_the_first_iteration(command, calm, tmp_path):
    command(tmp_path / "run", "--teacher", str(calm / "iteration1"))
    assert not (tmp_path / "run/iteration1").exists()
    one, two = (load_file(folder / "iteration2/model.safetensors") for folder in (calm, tmp_path / "run"))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []

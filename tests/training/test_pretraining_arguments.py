import dataclasses
from pathlib import Path

import pytest
from transformers import HfArgumentParser

from hf_audio_ssl.command_line import parse_pretraining
from hf_audio_ssl.registry import get_method, load_class
from hf_audio_ssl.training import PretrainingArguments, load_recipe, run_pretraining
from hf_audio_ssl.training.arguments import FREE_ARGUMENTS, load_yaml, make_arguments

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_steps": 0}, "max_steps=0: expected at least 1"),
        ({"max_steps": 10.5}, "max_steps=10.5: expected int"),
        ({"max_steps": True}, "max_steps=True: expected int"),
        ({"max_steps": None}, "max_steps=None: expected int"),
        ({"per_device_batch_size": -1}, "per_device_batch_size=-1: expected at least 1"),
        ({"learning_rate": 0}, "learning_rate=0: expected a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: expected a positive number"),
        ({"learning_rate": "fast"}, "learning_rate='fast': expected float"),
        ({"min_lr": 0.1, "learning_rate": 0.01}, "min_lr=0.1: expected at most learning_rate=0.01"),
        ({"weight_decay": float("nan")}, "weight_decay=nan: expected at least 0"),
        ({"warmup_steps": 11, "max_steps": 10}, "warmup_steps=11 .*expected at most max_steps=10"),
        ({"lr_schedule": "step"}, "lr_schedule='step': expected one of cosine, linear"),
        ({"lr_schedule": "inverse_sqrt"}, "warmup_steps=0: .*inverse_sqrt"),
        ({"min_lr": 1e-5, "lr_schedule": "constant"}, "min_lr=1e-05: lr_schedule='constant' does not fall"),
        ({"hold_steps": 5}, "hold_steps=5: only .*tri_stage"),
        ({"adam_beta2": 1.0}, r"adam_beta2=1.0: expected a number in \[0, 1\)"),
        ({"mixed_precision": "int8"}, "mixed_precision='int8': expected one of no, bf16, fp16"),
        ({"clip_seconds": 0.0}, "clip_seconds=0.0: expected a positive number of seconds"),
        ({"save_total_limit": 0}, "save_total_limit=0: expected at least 1"),
        ({"torch_compile": "yes"}, "torch_compile='yes': expected bool"),
        ({"seed": -1}, "seed=-1: expected at least 0"),
        ({"push_to_hub": True}, "push_to_hub=True: expected hub_model_id"),
    ],
)
def test_bad_values_are_named_with_what_is_expected(values, message):
    with pytest.raises(ValueError, match=message):
        PretrainingArguments(**values)


def test_numbers_as_yaml_reads_them():
    text = "{max_steps: 1e3, learning_rate: 5e-4, min_lr: 1E-5, clip_seconds: 1, adam_epsilon: 1.5e-7}"
    args = make_arguments(load_yaml(text, "here"))
    assert args.max_steps == 1000 and isinstance(args.max_steps, int)
    assert (args.learning_rate, args.min_lr, args.adam_epsilon, args.clip_seconds) == (5e-4, 1e-5, 1.5e-7, 1)
    text = "[1e+3, .5e2, -1.0e3, 1_e3, e5, 0x1e5, '1e5', 1e5a, 2024-01-01]"
    assert load_yaml(text, "here")[:-1] == [1e3, 50.0, -1e3, "1_e3", "e5", 0x1E5, "1e5", "1e5a"]


def test_every_argument_has_help_and_a_command_line_option():
    parser = HfArgumentParser(PretrainingArguments)
    for field in dataclasses.fields(PretrainingArguments):
        assert len(field.metadata["help"]) > 20, field.name
        assert f"--{field.name}" in parser.format_help()
    (args,) = parser.parse_args_into_dataclasses(
        ["--mixed_precision", "bf16", "--clip_seconds", "2", "--torch_compile"]
    )
    assert args.mixed_precision == "bf16" and args.clip_seconds == 2.0 and args.torch_compile
    assert PretrainingArguments(hub_model_id=None, clip_seconds=None).save_total_limit == 2


def test_free_arguments_exist_and_the_trajectory_holds_the_others():
    names = {field.name for field in dataclasses.fields(PretrainingArguments)}
    assert names > FREE_ARGUMENTS
    assert set(PretrainingArguments().trajectory()) == names - FREE_ARGUMENTS
    assert {"learning_rate", "seed", "max_steps", "clip_seconds", "mixed_precision"} <= names - FREE_ARGUMENTS


def test_learning_rate_follows_the_arguments():
    args = PretrainingArguments(max_steps=100, warmup_steps=10, learning_rate=1.0, min_lr=0.2)
    assert [args.learning_rate_at(step) for step in (0, 5, 10, 100)] == pytest.approx([0, 0.5, 1, 0.2])


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_recipe(tmp_path):
    recipe = load_recipe(
        write(
            tmp_path, "method: eat\nmodel: {hidden_size: 32}\ndata: {dataset: synthetic}\ntraining:\n  max_steps: 5\n"
        )
    )
    assert recipe.method == "eat" and recipe.model == {"hidden_size": 32} and recipe.features == {}
    assert recipe.data == {"dataset": "synthetic"} and recipe.training == {"max_steps": 5}
    assert load_recipe(write(tmp_path, "")).training == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainning: {}", "recipe.yaml.*unknown trainning; expected some of method, model, features, data, training"),
        ("training: {max_step: 1, lr: 2}", "recipe.yaml.*`training:`: unknown max_step, lr; expected .*max_steps"),
        ("training: {max_steps: many}", "recipe.yaml.*max_steps='many': expected int"),
        ("training: {max_steps: 10, warmup_steps: 20}", "recipe.yaml.*warmup_steps=20"),
        ("data: {path: x}", "recipe.yaml.*`data:`: unknown path; expected some of dataset"),
        ("model: 3", "recipe.yaml.*`model:` must hold names and values, got 3"),
        ("- 1", "recipe.yaml.*expected blocks .*got list"),
        ("a: [", "recipe.yaml.*is not YAML"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(write(tmp_path, text))


def test_a_recipe_that_is_not_there():
    with pytest.raises(ValueError, match="nowhere.yaml' cannot be read: No such file"):
        load_recipe("nowhere.yaml")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({}, "method: none given"),
        ({"method": "eat"}, "dataset: none given"),
        ({"method": "ate", "dataset": "synthetic"}, "unknown method 'ate'"),
        (
            {"method": "eat", "dataset": "synthetic", "model": {"width": 3}},
            r"model \(EatConfig\): unknown width; .*hidden_size",
        ),
        (
            {"method": "eat", "dataset": "synthetic", "features": {"mels": 3}},
            r"features \(Eat.*\): unknown mels; .*num_mel_bins",
        ),
        ({"method": "eat", "dataset": "synthetic", "data": {"rate": 3}}, "data: unknown rate"),
        ({"method": "eat", "dataset": "synthetic", "probe_steps": 3}, "probe_steps=3, but no probe is given"),
        (
            {"method": "eat", "dataset": "synthetic", "probe": {"dataset": "synthetic", "num_clips": 4}},
            "probe_steps=0, but there is a probe",
        ),
        ({"method": "eat", "dataset": "synthetic", "probe": {"pool": "cls"}}, "probe: got pool, expected a dataset"),
        (
            {"method": "eat", "dataset": "synthetic", "probe": {"dataset": "synthetic", "probes": ["svm"]}},
            "probes: unknown svm; expected some of linear, knn",
        ),
        (
            {"method": "eat", "dataset": "synthetic", "steps": 3},
            "training: unknown steps; expected some of .*max_steps",
        ),
    ],
)
def test_mistakes_in_a_call_are_named(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        run_pretraining(output_dir=str(tmp_path / "out"), **call) if "steps" not in call else run_pretraining(**call)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / "examples/recipes").glob("*/*.yaml")) if not p.stem.startswith(("finetune", "ctc"))],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_the_recipes_in_the_repository(path):
    recipe = load_recipe(path)
    spec = get_method(recipe.method)
    assert spec.name == path.parent.name
    config_class = load_class(spec, "AutoConfig")
    config, extractor = config_class(**recipe.model), load_class(spec, "AutoFeatureExtractor")(**recipe.features)
    args = make_arguments(recipe.training)
    if args.clip_seconds and extractor.max_length:
        assert extractor.num_frames(round(args.clip_seconds * extractor.sampling_rate)) <= extractor.max_length
    if path.stem == "base":
        assert config.to_dict() == config_class().to_dict()  # the defaults are the paper's


def test_the_command_line_passes_on_what_is_given_and_nothing_else():
    def parse(*argv):
        return parse_pretraining(list(argv), description="")

    assert parse("--recipe", "r.yaml", "--max_steps", "3") == {"recipe": "r.yaml", "max_steps": 3}
    given = parse("--set", "model.hidden_size=8", "data.streaming=true", "features.mean=-1.5")
    assert given == {"model": {"hidden_size": 8}, "data": {"streaming": True}, "features": {"mean": -1.5}}
    given = parse("--set", "model.hidden_size=8", "--set", "data.streaming=true", "model.patch_size=4")
    assert given == {"model": {"hidden_size": 8, "patch_size": 4}, "data": {"streaming": True}}  # none is lost
    with pytest.raises(SystemExit):
        parse("--set", "hidden_size=8")

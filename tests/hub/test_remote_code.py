# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""From a saved folder over HTTP to a process without the package: real client, small Hub, bit-equal results."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, HubServer
from huggingface_hub import HfApi, ModelCard, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file

from hf_audio_ssl.hub import push

HERE = Path(__file__).parent
ENCODER, CLASSIFIER, ADAPTER = "tester/eat-tiny", "tester/eat-digits", "tester/eat-digits-lora"


def run(hub, home, *command, token=TOKEN):
    paths = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}  # which `-I` ignores
    environment = os.environ | paths | hub.environment(home, token)
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, cwd=home, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A Hub to which the author has pushed, and his folder."""
    folder = tmp_path_factory.mktemp("author")
    with HubServer(tmp_path_factory.mktemp("hub")) as hub:
        run(hub, folder, HERE / "publishing.py", folder)
        yield hub, folder


def assert_bit_equal(result, expected):
    assert result.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(result[name], value)] == []


def test_with_the_package_no_flag_is_needed(published):
    _, folder = published
    expected = load_file(folder / "expected.safetensors")
    # what is compared is worth comparing
    assert {
        "features",
        "encode",
        "logits",
        "scores",
        "AutoModel.last_hidden_state",
        "AutoModelForPreTraining.loss",
    } <= set(expected)
    assert all(
        value.double().std() > 1e-3 for name, value in expected.items() if name in ("features", "encode", "logits")
    )
    assert_bit_equal(load_file(folder / "with_package.safetensors"), expected)


def test_a_stranger_without_the_package(published, tmp_path):
    hub, folder = published
    run(hub, tmp_path, "-I", HERE / "loading.py", tmp_path / "out.safetensors", ENCODER, CLASSIFIER)
    assert_bit_equal(load_file(tmp_path / "out.safetensors"), load_file(folder / "expected.safetensors"))
    assert hub.unknown == []


def test_repository_is_complete_and_clean(published):
    hub, folder = published
    files = hub.files(ENCODER)
    code = {path for path in files if path.endswith(".py")}
    assert {"configuration_eat.py", "modeling_eat.py", "feature_extraction_eat.py", "ssl_audio_fbank.py"} <= code
    assert not {"ssl_registry.py", "ssl_auto.py", "__init__.py"} & code
    for path in code:
        text = hub.read(ENCODER, path).decode()
        assert text.startswith("# Copyright")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "hf_audio_ssl" not in ast.unparse(node), (path, ast.unparse(node))
    auto_map = json.loads(hub.read(ENCODER, "config.json"))["auto_map"]
    assert auto_map == {
        "AutoConfig": "configuration_eat.EatConfig",
        "AutoFeatureExtractor": "feature_extraction_eat.EatFeatureExtractor",
        "AutoModel": "modeling_eat.EatModel",
        "AutoModelForAudioClassification": "modeling_eat.EatForAudioClassification",
        "AutoModelForAudioFrameClassification": "modeling_eat.EatForAudioFrameClassification",
        "AutoModelForPreTraining": "modeling_eat.EatForPreTraining",
    }
    extractor = json.loads(hub.read(ENCODER, "preprocessor_config.json"))["auto_map"]
    assert extractor == {"AutoFeatureExtractor": "feature_extraction_eat.EatFeatureExtractor"}
    # training state stays at home
    kept = set(hub.files(CLASSIFIER)) - {path for path in hub.files(CLASSIFIER) if path.endswith(".py")}
    assert kept == {
        "README.md",
        "config.json",
        "map.dat",
        "model.safetensors",
        "preprocessor_config.json",
        "results.json",
    }


def test_large_files_go_through_lfs_in_parts(published):
    hub, folder = published
    for path in ("map.dat", "model.safetensors"):
        entry = hub.files(CLASSIFIER)[path]
        assert entry.lfs and entry.size > hub.part_size
        assert hub.read(CLASSIFIER, path) == (folder / "classifier" / path).read_bytes()
        assert hub.requests.count(f"PUT /lfs/{entry.sha256}") == -(-entry.size // hub.part_size)
    assert not hub.files(CLASSIFIER)["config.json"].lfs


def test_visibility_branches_and_commits(published):
    hub, _ = published
    public, private = hub.repositories[ENCODER], hub.repositories[CLASSIFIER]
    assert (public.private, private.private) == (False, True)
    assert private.messages == ["initial commit", "First"]
    # the second push removed a code file of another version, the third changed nothing, the fourth went to a branch
    pushed = "Upload EatForPreTraining with hf_audio_ssl"
    assert public.messages == ["initial commit", pushed, "Old code", pushed, pushed]
    assert "ssl_old.py" not in hub.files(ENCODER)
    assert "modeling_eat.py" in hub.files(ENCODER)
    assert "auto_map" not in json.loads(hub.read(ENCODER, "config.json", "bare"))


def test_cards_in_the_hub(published):
    hub, _ = published
    encoder = ModelCard(hub.read(ENCODER, "README.md").decode()).data
    assert (encoder.library_name, encoder.pipeline_tag, encoder.license) == ("transformers", None, "unknown")
    classifier = ModelCard(hub.read(CLASSIFIER, "README.md").decode()).data
    assert classifier.pipeline_tag == "audio-classification"
    assert [set(example) for example in classifier.widget] == [{"example_title", "src"}] * 2
    assert [(r.dataset_name, r.metric_type, r.metric_value) for r in classifier.eval_results] == [
        ("fsdd", "accuracy", 0.5123)
    ]
    adapter = ModelCard(hub.read(ADAPTER, "README.md").decode()).data
    assert (adapter.library_name, adapter.base_model, adapter.base_model_relation) == ("peft", CLASSIFIER, "adapter")
    assert "modeling_eat.py" not in hub.files(ADAPTER)


def test_the_small_hub_keeps_secrets_and_serves_ranges(published, tmp_path):
    hub, _ = published
    stranger = HfApi(endpoint=hub.url, token=False)
    with pytest.raises(RepositoryNotFoundError):
        stranger.model_info(CLASSIFIER)
    assert stranger.model_info(ENCODER).library_name == "transformers"
    listed = {item.path for item in stranger.list_repo_tree(ENCODER)}
    assert listed == set(hub.files(ENCODER))
    # a download that breaks off goes on where it stopped
    entry = hub.files(ENCODER)["model.safetensors"]
    hub.cut_after[entry.sha256] = 11 * 2**20  # the client keeps whole chunks of 10 MiB
    file = hf_hub_download(ENCODER, "model.safetensors", endpoint=hub.url, cache_dir=tmp_path, token=False)
    assert Path(file).read_bytes() == hub.read(ENCODER, "model.safetensors")
    (rest,) = (request for request in hub.requests if request.startswith(f"206 {entry.sha256}"))
    assert 0 < int(rest.split()[-1]) <= 11 * 2**20


@pytest.mark.parametrize(
    ("repo_id", "config", "token", "error"),
    [
        ("user/name/more", True, TOKEN, "repo_id='user/name/more': expected 'user/name'"),
        ("user/na me", True, TOKEN, "repo_id"),
        ("user/name", False, TOKEN, "has no config.json"),
        ("user/name", True, None, "token: none given and none stored"),
    ],
)
def test_push_says_what_is_wrong_before_any_request(tmp_path, monkeypatch, repo_id, config, token, error):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    if config:
        (tmp_path / "config.json").write_text('{"model_type": "ssl_eat", "architectures": ["EatModel"]}')
    with pytest.raises(ValueError, match=error):
        push(tmp_path, repo_id, token=token)


def test_adapter_of_a_local_base_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    with pytest.raises(ValueError, match="is no Hub repository"):
        push(tmp_path, "user/name", token=TOKEN)


def test_a_run_pushes_as_it_goes(published, tmp_path):
    hub, _ = published
    small = ["hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=16", "num_clones=2"]
    small += ["decoder_hidden_size=16", "decoder_num_layers=1", "decoder_groups=4", "max_time_patches=16"]
    run(
        hub, tmp_path, "-m", "hf_audio_ssl.cli", "pretrain", "--method", "eat", "--dataset", "synthetic",
        "--set", "data.num_clips=18", "features.max_length=64", *(f"model.{name}" for name in small),
        "--output_dir", tmp_path / "run", "--max_steps", "6", "--save_steps", "2", "--per_device_batch_size", "2",
        "--clip_seconds", "0.6", "--push_to_hub", "--hub_model_id", "tester/eat-run",
    )  # fmt: skip
    api = HfApi(endpoint=hub.url, token=TOKEN)
    messages = hub.repositories["tester/eat-run"].messages
    assert "Upload checkpoint-00000002" in messages and messages[-1] == "Upload run"
    files = set(api.list_repo_files("tester/eat-run"))
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "modeling_eat.py"} <= files
    assert not any("optimizer" in name or name.startswith("checkpoint") for name in files)
    pushed = hf_hub_download(
        "tester/eat-run", "model.safetensors", endpoint=hub.url, token=TOKEN, cache_dir=tmp_path / "cache"
    )
    assert_bit_equal(load_file(pushed), load_file(tmp_path / "run" / "model.safetensors"))

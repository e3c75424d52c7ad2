# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hf_audio_ssl import EatConfig, EatFeatureExtractor, Wav2Vec2Config
from hf_audio_ssl.hub import methods_table, render_card, update_family_card, update_table
from hf_audio_ssl.registry import get_method, methods

ROOT = Path(__file__).parents[2]
EAT = get_method("eat")


@pytest.fixture
def folder(tmp_path):
    """`folder("EatModel")`: what `save_pretrained` leaves of that class, as far as a card looks at it."""

    def make(architecture, **config):
        EatConfig(architectures=[architecture], hidden_size=64, num_attention_heads=4, **config).save_pretrained(
            tmp_path
        )
        return tmp_path

    return make


def reread(card, folder):
    """The card as the Hub reads it from the file."""
    card.save(folder / "README.md")
    return ModelCard.load(folder / "README.md")


def test_converted_checkpoint(folder):
    checkpoint = EAT.checkpoints[1]
    parity = [
        {"method": "eat", "case": "a", "tensors": [{"ok": True, "atol": 1e-3, "max_abs_diff": 2e-4, "name": "x"}]},
        {"method": "other", "case": "b", "tensors": []},
    ]
    path = folder("EatForPreTraining")
    card = reread(render_card(path, repo_id="me/eat", checkpoint=checkpoint.name, parity=parity), path)
    assert (card.data.license, card.data.datasets, card.data.library_name) == ("mit", ["as-2m"], "transformers")
    assert card.data.pipeline_tag is None and "widget" not in card.data.to_dict() and card.data.base_model is None
    for fact in (
        checkpoint.source,
        "convert_eat.py",
        "1 of 1 tensors in 1 cases",
        "20% of its tolerance",
        "2401.03497",
        "64 wide",
    ):
        assert fact in card.text, fact
    with pytest.raises(ValueError, match="checkpoint='x' is not one of eat's: expected EAT-base"):
        render_card(path, checkpoint="x")
    with pytest.raises(ValueError, match="holds no tensors of eat"):
        render_card(path, parity=parity[1:])


def test_file_of_unknown_origin_is_not_passed_off_as_ours(folder):
    path = folder("EatForPreTraining")
    (path / "conversion.json").write_text(json.dumps({"checkpoint": "checkpoint_last.pt"}))
    card = reread(render_card(path), path)
    assert "from `checkpoint_last.pt`, which was trained elsewhere" in card.text
    assert card.data.license == "unknown"
    assert "Trained with `hf_audio_ssl`" not in card.text


def test_meters_of_the_run(folder):
    path = folder("EatForPreTraining")
    lines = [
        {"step": 10, "target_std": 0.5, "prediction_std": 0.002},
        {"step": 20, "target_std": 0.4321},
        {"event": "saved"},
    ]
    (path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    text = render_card(path).text
    assert "| `target_std` | above 0.1 | 0.4321 |" in text and "| `prediction_std` | above 0.01 | 0.002 |" in text
    checkpoint = path / "checkpoint-20"
    checkpoint.mkdir()
    (path / "config.json").rename(checkpoint / "config.json")
    assert "| 0.4321 |" in render_card(checkpoint).text
    assert "Meters" not in render_card(folder("EatModel")).text


def test_fine_tuned_model_with_results(folder):
    path = folder("EatForAudioClassification", num_labels=10)
    (path / "samples").mkdir()
    (path / "samples" / "bell.wav").touch()
    row = {
        "task": "audio-classification",
        "dataset": "ESC-50",
        "metric": "accuracy",
        "value": 0.87654321,
        "command": "make x",
    }
    card = render_card(
        path, repo_id="me/esc", license="Custom License", base_model="you/eat", datasets=["ESC-50"], results=[row]
    )
    data = reread(card, path).data
    assert data.pipeline_tag == "audio-classification"
    assert (data.base_model, data.to_dict()["base_model_relation"]) == ("you/eat", "finetune")
    assert (data.license, data.license_name) == ("other", "custom-license")
    assert data.to_dict()["widget"] == [
        {"example_title": "bell", "src": "https://huggingface.co/me/esc/resolve/main/samples/bell.wav"}
    ]
    assert data.metrics == ["accuracy"] and data.eval_results[0].metric_value == 0.8765
    assert "| audio-classification | ESC-50 | accuracy | 0.8765 | `make x` |" in card.text
    assert 'pipeline("audio-classification", model="me/esc"' in card.text
    del row["metric"]
    with pytest.raises(ValueError, match="has no metric"):
        render_card(path, results=[row])


@pytest.mark.parametrize("head", ["Model", "ForPreTraining", "ForAudioClassification", "ForAudioFrameClassification"])
def test_the_sampling_rate_is_that_of_the_folder(folder, head):
    """A pipeline takes an array as it is: with another rate its answer is wrong, and nothing says so."""
    path = folder(f"Eat{head}")
    EatFeatureExtractor(sampling_rate=8000).save_pretrained(path)
    text = render_card(path).text
    assert "spectrogram, 8000 Hz mono" in text and "nothing above 4 kHz" in text
    usage = text.partition("```python")[2].partition("```")[0]
    assert "8000" in usage and "16000" not in text


def test_rate_of_a_recogniser(tmp_path):
    Wav2Vec2Config(architectures=["Wav2Vec2ForCTC"]).save_pretrained(tmp_path)
    assert "1-D float array at 16000 Hz" in render_card(tmp_path).text  # no extractor saved: the method's
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 11025}))
    text = render_card(tmp_path).text
    assert "1-D float array at 11025 Hz" in text and "nothing above 5.5125 kHz" in text


def test_base_of_a_fine_tuned_model(folder):
    """Fine-tuning leaves the Hub id it started from in results.json; a base from a local folder leaves none."""
    path = folder("EatForAudioClassification", num_labels=10)
    row = {"task": "audio-classification", "dataset": "ESC-50", "metric": "accuracy", "value": 0.5}
    (path / "results.json").write_text(json.dumps([row]))
    assert render_card(path).data.base_model is None
    (path / "results.json").write_text(json.dumps([row | {"base_model": "you/eat"}]))
    card = reread(render_card(path), path)
    assert (card.data.base_model, card.data.to_dict()["base_model_relation"]) == ("you/eat", "finetune")
    assert "Fine-tuned from [you/eat](https://huggingface.co/you/eat)" in card.text
    assert "not the authors' weights" not in card.text
    assert render_card(path, base_model="me/other").data.base_model == "me/other"


@pytest.mark.parametrize("name", ["results", "history", "parity"])
def test_a_file_that_was_named_must_be_there(folder, name):
    with pytest.raises(FileNotFoundError, match="nofile.json"):
        render_card(folder("EatForPreTraining"), **{name: "nofile.json"})


def test_frame_classifier_gets_no_widget(folder):
    card = render_card(folder("EatForAudioFrameClassification"), repo_id="me/frames")
    assert card.data.pipeline_tag is None and "AutoModelForAudioFrameClassification.from_pretrained" in card.text


def test_adapter_of_a_local_base(folder):
    """The base is known from its folder; its path, which means nothing to others, is not in the card."""
    base = folder("EatForAudioClassification")
    adapter = base / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(base), "task_type": "SEQ_CLS", "auto_mapping": None}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    card = render_card(adapter, repo_id="me/lora")
    assert str(base) not in str(card) and card.data.base_model is None
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "audio-classification")
    assert render_card(adapter, base_model="me/base").data.base_model == "me/base"


def test_table_of_methods(tmp_path):
    table = methods_table()
    assert table.count("\n") == len(methods()) + 1
    assert all(len(line.replace("\\|", "").split("|")) == 9 for line in table.splitlines())
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- methods:begin -->old<!-- methods:end -->\nafter\n")
    assert update_table(readme) and not update_table(readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and table in text and "old" not in text
    readme.write_text("<!-- methods:end --> <!-- methods:begin -->")
    with pytest.raises(ValueError, match="needs one line <!-- methods:begin -->"):
        update_table(readme)
    assert readme.read_text() == "<!-- methods:end --> <!-- methods:begin -->"


@pytest.mark.parametrize("name", methods())
def test_family_cards_say_what_the_registry_says(name, tmp_path):
    card = tmp_path / f"{name}.md"
    card.write_text((ROOT / "model_cards" / card.name).read_text())
    assert not update_family_card(card, get_method(name)), f"run update_family_card on model_cards/{name}.md"
    assert ModelCard.load(card).data.library_name == "transformers"


def test_readme_table_is_current(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text((ROOT / "README.md").read_text())
    assert not update_table(readme), "run hf_audio_ssl.hub.update_table on README.md"


@pytest.mark.parametrize(
    ("architecture", "task", "usage"),
    [
        ("Wav2Vec2ForCTC", "automatic-speech-recognition", 'pipeline("automatic-speech-recognition", model="me/x")'),
        ("Wav2Vec2ForPreTraining", None, "from hf_audio_ssl import Wav2Vec2Model"),
    ],
)
def test_native_model_types_need_no_remote_code(tmp_path, architecture, task, usage):
    Wav2Vec2Config(architectures=[architecture]).save_pretrained(tmp_path)
    card = reread(render_card(tmp_path, repo_id="me/x"), tmp_path)
    assert card.data.pipeline_tag == task and usage in card.text
    assert "trust_remote_code" not in card.text and "Python files in this repository" not in card.text
    assert "plain transformers" in card.text

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The author's machine: has the package and a token, saves tiny models, pushes them, uses them from the Hub.

`python publishing.py FOLDER` under the environment of a `HubServer`. Writes `expected.safetensors` (from the saved
folders, before any push) and `with_package.safetensors` (from the Hub, the package imported, no flag).
"""

import json
import logging
import sys
from pathlib import Path

import numpy
import torch
from huggingface_hub import HfApi
from loading import outputs, run_usage
from safetensors.torch import save_file

from hf_audio_ssl import EatConfig, EatFeatureExtractor, EatForAudioClassification, EatForPreTraining
from hf_audio_ssl.hub import push, render_card

ENCODER, CLASSIFIER, ADAPTER = "tester/eat-tiny", "tester/eat-digits", "tester/eat-digits-lora"
SIZES = {
    "hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 768, "num_clones": 2,
    "decoder_hidden_size": 32, "decoder_num_layers": 1, "decoder_groups": 4, "max_time_patches": 64,
}  # fmt: skip
REFUSED = [
    (ENCODER, {"private": True}, ValueError),  # exists and is public
    (ENCODER, {"token": "hf_wrong"}, PermissionError),
    ("somebody/else", {}, PermissionError),
]
LABELS = ["bell", "drum", "wind"]
RESULTS = [
    {"task": "audio-classification", "dataset": "fsdd", "metric": "accuracy", "value": 0.51234, "split": "test"}
]


def save(folder: Path) -> tuple[str, str]:
    """An encoder and a classifier, saved, with the debris of a training run beside them."""
    torch.manual_seed(0)
    extractor = EatFeatureExtractor(max_length=96)
    encoder, classifier = folder / "encoder", folder / "classifier"
    EatForPreTraining(EatConfig(**SIZES)).save_pretrained(encoder)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: n for n, name in enumerate(LABELS)}}
    EatForAudioClassification(EatConfig(**SIZES, **labels)).save_pretrained(classifier)
    for model in (encoder, classifier):
        extractor.save_pretrained(model)
    (classifier / "map.dat").write_bytes(numpy.random.default_rng(0).bytes(11 * 2**20))  # large, of no known kind
    (classifier / "checkpoint-1").mkdir()
    (classifier / "checkpoint-1" / "config.json").write_text("{}")
    (classifier / "training_args.bin").write_bytes(b"pickle")
    (classifier / "results.json").write_text(json.dumps(RESULTS))
    return str(encoder), str(classifier)


def push_adapter(folder: Path) -> str:
    """LoRA on the classifier in the Hub; its card's code must load it again."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForAudioClassification

    base = AutoModelForAudioClassification.from_pretrained(CLASSIFIER)
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(folder)
    push(folder, ADAPTER)
    adapter = run_usage(render_card(folder, repo_id=ADAPTER).content, None)
    assert isinstance(adapter, PeftModel)
    return json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]


if __name__ == "__main__":
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    folder = Path(sys.argv[1])
    saved = save(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    save_file(outputs(*saved, code="hf_audio_ssl"), folder / "expected.safetensors")

    urls = [push(saved[0], ENCODER), push(saved[1], "eat-digits", private=True, commit_message="First")]
    assert urls[1].endswith(f"/{CLASSIFIER}"), urls
    HfApi().upload_file(path_or_fileobj=b"", path_in_repo="ssl_old.py", repo_id=ENCODER, commit_message="Old code")
    push(saved[0], ENCODER)  # only removes that file
    push(saved[0], ENCODER)  # nothing has changed: no commit
    push(saved[0], ENCODER, revision="bare", bundle_code=False)
    assert all(path.read_bytes() == content for path, content in before.items()), "push changed the folder"

    for repo_id, options, error in REFUSED:
        try:
            push(saved[0], repo_id, **options)
        except error as caught:
            assert repo_id in str(caught)
        else:
            raise AssertionError(f"push to {repo_id} with {options} was not refused")

    save_file(outputs(ENCODER, CLASSIFIER, code="hf_audio_ssl"), folder / "with_package.safetensors")
    assert push_adapter(folder / "adapter") == CLASSIFIER

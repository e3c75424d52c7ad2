# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What is not there on other machines. torchaudio beside a torch it was not built for raises OSError on import; common
GPU images lack the libraries that read audio files and data sets. Nothing of ours may need them without a file.
"""

import os
import subprocess
import sys
from pathlib import Path

BROKEN = 'raise OSError("libcudart.so.13: cannot open shared object file")\n'
SCRIPT = """
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
try:
    import torchaudio
except OSError:
    pass
else:
    raise SystemExit("torchaudio loaded: this process proves nothing")

import hf_audio_ssl
from hf_audio_ssl.registry import load_class, methods
from hf_audio_ssl.testing.mixins import find_testers
from transformers import pipeline

for name, tester in find_testers(sys.argv[1]).items():
    rate = tester.spec.sampling_rate
    extractor = tester.feature_extractor()
    extractor.save_pretrained(sys.argv[2])
    model = tester.model("AutoModelForPreTraining").train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    inputs = extractor([tester.audio(0.5), tester.audio(0.9, 1)], sampling_rate=rate, return_attention_mask=True)
    loss = model(**inputs).loss
    loss.backward()
    optimizer.step()
    model.after_optimizer_step(1)
    model.save_pretrained(sys.argv[2])
    model = load_class(tester.spec, "AutoModelForPreTraining").from_pretrained(sys.argv[2])
    extractor = load_class(tester.spec, "AutoFeatureExtractor").from_pretrained(sys.argv[2])
    assert model.encode(tester.audio(3.0), rate).isfinite().all()
    head = tester.model("AutoModelForAudioClassification")
    classify = pipeline("audio-classification", model=head, feature_extractor=extractor)
    assert len(classify(tester.audio(0.7).numpy())) == head.config.num_labels
print("all done")
"""


def test_everything_but_the_reference_works(tmp_path):
    (tmp_path / "broken/torchaudio").mkdir(parents=True)
    (tmp_path / "broken/torchaudio/__init__.py").write_text(BROKEN)
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'broken'}:{root}"}
    command = [sys.executable, "-c", "import sys\n" + SCRIPT, str(root / "tests/models"), str(tmp_path / "model")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "all done" in done.stdout, done.stderr[-3000:]


BARE = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split(".")[0] in ("datasets", "evaluate", "soundfile", "soxr", "torchaudio")
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


def test_an_image_without_audio_libraries_trains_on_the_built_in_corpus(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BARE)
    root = Path(__file__).parents[1]
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path}:{root}",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    sizes = ["hidden_size=32", "num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=32"]
    sizes += ["decoder_hidden_size=32", "decoder_num_layers=1", "num_clones=2"]
    pretrained, classifier = str(tmp_path / "pretrained"), str(tmp_path / "classifier")
    pretrain = ["pretrain", "--method", "eat", "--output_dir", pretrained, "--clip_seconds", "1", "--set"]
    pretrain += ["data.num_clips=40", "features.max_length=96", *(f"model.{size}" for size in sizes)]
    finetune = ["finetune", "--model", pretrained, "--output_dir", classifier, "--lora", "--set", "data.num_clips=60"]
    for options in (pretrain, finetune):
        command = [sys.executable, "-m", "hf_audio_ssl.cli", *options, "--dataset", "synthetic", "--max_steps", "2"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "classifier/model.safetensors").exists()

# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What an import loads, seen in a fresh process. benchmarks/import_time.py has the times."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "torchaudio", "datasets", "accelerate", "sklearn", "soundfile", "soxr", "peft", "evaluate", "matplotlib", "scipy"
}  # fmt: skip
STAGES = {
    "theirs": "import torch, transformers",
    "package": "import hf_audio_ssl",
    "configuration": "from hf_audio_ssl import EatConfig; EatConfig()",
    "theirs for models": "from transformers import PreTrainedModel, SequenceFeatureExtractor, initialization",
    "model": "from hf_audio_ssl import EatForPreTraining, EatFeatureExtractor",
}


@pytest.fixture(scope="module")
def added():
    """Stage -> the modules that it loads beyond those of the stages before."""
    script = "import sys, json\nseen, added = set(sys.modules), {}\n"
    for name, code in STAGES.items():
        script += f"{code}\nadded[{name!r}] = sorted(set(sys.modules) - seen)\nseen = set(sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", script + "print(json.dumps(added))"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def packages(modules):
    return {name.split(".")[0] for name in modules}


def test_the_package_is_light(added):
    """A model file pulls in PreTrainedModel, which alone doubles the time of `import torch, transformers`."""
    assert "hf_audio_ssl.registry" in added["package"]
    assert not packages(added["theirs"] + added["package"]) & HEAVY
    assert "transformers.modeling_utils" not in added["theirs"] + added["package"]
    ours = [name.split(".") for name in added["package"] if name.startswith("hf_audio_ssl.")]
    assert {parts[1] for parts in ours} == {"auto", "registry", "models"}
    assert not [parts for parts in ours if len(parts) > 3]


def test_a_configuration_loads_no_model(added):
    assert "hf_audio_ssl.models.eat.configuration_eat" in added["configuration"]
    assert "hf_audio_ssl.models.eat.modeling_eat" not in added["configuration"]
    assert "transformers.modeling_utils" not in added["configuration"]


def test_a_model_needs_no_optional_package(added):
    assert "hf_audio_ssl.models.eat.modeling_eat" in added["model"]
    assert not packages(added["model"]) & HEAVY

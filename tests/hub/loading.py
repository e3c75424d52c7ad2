# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What a user does with two repositories, as tensors: an encoder with its pre-training head, and a classifier.

publishing.py calls it with the package. Run as a script it is the stranger's machine, where the package and everything
optional is absent: `python -I loading.py OUT.safetensors ENCODER CLASSIFIER`.
"""

import re
import sys

PACKAGE = "hf_audio_ssl"
OPTIONAL = ("accelerate", "datasets", "evaluate", "peft", "sklearn", "soundfile", "soxr", "torchaudio")


def outputs(encoder: str, classifier: str, code: str, **kwargs) -> dict:
    """Load both through the Auto classes and the pipeline, run them, and return everything computed.

    `code`: the package that every loaded class must come from.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModel,
        AutoModelForAudioClassification,
        AutoModelForPreTraining,
        pipeline,
    )

    torch.set_num_threads(1)
    audio = torch.sin(torch.arange(16000) ** 1.5 / 500) * torch.rand(16000, generator=torch.Generator().manual_seed(1))
    result = {}
    config = AutoConfig.from_pretrained(encoder, **kwargs)
    extractor = AutoFeatureExtractor.from_pretrained(encoder, **kwargs)
    features = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt")
    result["features"] = features["input_values"]
    loaded = [config, extractor]
    for auto in (AutoModel, AutoModelForPreTraining):
        model, report = auto.from_pretrained(encoder, output_loading_info=True, **kwargs)
        assert not report["missing_keys"], report
        loaded.append(model.eval())
        torch.manual_seed(0)  # masks and noise
        with torch.no_grad():
            for name, value in model(**features).items():
                if isinstance(value, torch.Tensor):
                    result[f"{auto.__name__}.{name}"] = value
    result["encode"] = loaded[2].encode(audio, sampling_rate=16000)
    result["encode_untold"] = loaded[2].encode([audio, audio[:9000]], sampling_rate=16000, pool="cls")
    with torch.no_grad():
        head = AutoModelForAudioClassification.from_pretrained(classifier, **kwargs).eval()
        result["logits"] = head(**features).logits
    classify = pipeline("audio-classification", model=classifier, device="cpu", **kwargs)
    scores = {item["label"]: item["score"] for item in classify(audio.numpy(), top_k=None)}
    result["scores"] = torch.tensor([scores[name] for name in sorted(scores)], dtype=torch.float64)
    loaded += [head, classify.model, classify.feature_extractor]
    for item in loaded:
        assert type(item).__module__.split(".")[0] == code, (type(item), code)
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in result.items()}


def run_usage(card: str, audio):
    """Execute the usage code of a card and return the value of its last assignment."""
    code = re.search(r"## Use\n+```python\n(.*?)```", card, re.DOTALL)[1]
    scope = {"audio": audio}
    exec(code, scope)
    return scope[re.findall(r"^(\w+) = ", code, re.MULTILINE)[-1]]


if __name__ == "__main__":
    for name in (PACKAGE, *OPTIONAL):
        sys.modules[name] = None  # to Python and to `importlib.util.find_spec` this is "not installed"
    try:
        import hf_audio_ssl
    except ImportError:
        pass
    else:
        sys.exit(f"{hf_audio_ssl.__file__} can be imported: this process proves nothing")

    import numpy
    from huggingface_hub import hf_hub_download, snapshot_download
    from safetensors.torch import save_file

    destination, *repositories = sys.argv[1:]
    trusted = {"code": "transformers_modules", "trust_remote_code": True}
    result = outputs(*repositories, **trusted)
    save_file(result, destination)
    # transformers gives every file of a local folder a module of its own
    local = outputs(*map(snapshot_download, repositories), **trusted)
    assert all(bool((value == result[name]).all()) for name, value in local.items())
    for repository in repositories:
        with open(hf_hub_download(repository, "README.md"), encoding="utf-8") as stream:
            assert run_usage(stream.read(), numpy.zeros(16000, dtype=numpy.float32) + 0.01) is not None

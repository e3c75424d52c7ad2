# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""torchaudio beside a torch it was not built for raises OSError on import. Nothing of ours may need it."""

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

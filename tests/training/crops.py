# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""One of several processes that fine-tune for three epochs: `torchrun crops.py MODEL DATASET OUT` writes the start of
the crop of clip 0 in each epoch, as this process sees it, to OUT/crops-RANK.json.
"""

import json
import sys
from pathlib import Path

from transformers import TrainerCallback

from hf_audio_ssl.training.finetuning import FinetuningArguments, run_finetuning

model, dataset, out = sys.argv[1:]


class Look(TrainerCallback):
    crops: list[float] = []

    def on_epoch_end(self, args, state, control, train_dataloader=None, **kwargs):
        self.crops.append(train_dataloader.dataset[0]["audio"][:100].sum().item())


args = FinetuningArguments(
    output_dir=out, model=model, dataset=dataset, num_train_epochs=3, per_device_train_batch_size=2, eval_share=0.25,
    report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", seed=0,
)  # fmt: skip
run_finetuning(args, callbacks=[Look()])
(Path(out) / f"crops-{args.process_index}.json").write_text(json.dumps(Look.crops))

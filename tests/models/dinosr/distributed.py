# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""One of several processes that pre-train a tiny model on their share of one batch, twice accumulated, for two steps.

`python distributed.py RANK PROCESSES PORT OUT` writes its state dict to OUT.
"""

import os
import sys
from contextlib import nullcontext

import torch
from safetensors.torch import save_file
from tester import DinoSrTester
from torch.nn.parallel import DistributedDataParallel

rank, processes = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[3]}
torch.distributed.init_process_group("gloo", rank=rank, world_size=processes)

tester = DinoSrTester()
own = tester.model("AutoModelForPreTraining").train()
model = DistributedDataParallel(own)
optimizer = torch.optim.SGD([p for p in own.parameters() if p.requires_grad], lr=0.1)
for step in (1, 2):
    torch.manual_seed(step)
    values = torch.randn(8, tester.steps)
    masked = (torch.rand(8, 12).argsort(dim=1) < 6).chunk(2)
    for micro, part in enumerate(values.chunk(2)):
        share = slice(rank * 4 // processes, (rank + 1) * 4 // processes)
        with model.no_sync() if micro == 0 else nullcontext():
            output = model(part[share], bool_masked_pos=masked[micro][share])
            (output.loss / 2).backward()
    optimizer.step()
    optimizer.zero_grad()
    own.after_optimizer_step(step)
save_file({name: value.contiguous() for name, value in own.state_dict().items()}, sys.argv[4])
torch.distributed.destroy_process_group()

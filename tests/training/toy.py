"""A pre-training model of 1,000 parameters with everything the loop has to cope with, and a nursery for its processes.

`python toy.py` reads one JSON job per line and runs each in processes that it forks: torch is imported once, and a job
starts in milliseconds. A job is killed with SIGKILL where it says so.
"""

import itertools
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BatchFeature, FeatureExtractionMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from hf_audio_ssl.data.dataset import collate_clips
from hf_audio_ssl.training import PretrainingArguments, pretrain
from hf_audio_ssl.training import checkpoint as checkpoints

FRAMES, WIDTH = 6, 8


class ToyConfig(PreTrainedConfig):
    model_type = "toy_for_pretraining"
    hidden_size: int = 16
    ema_decay: float = 0.9
    idle_layer: bool = False


@dataclass
class ToyOutput(ModelOutput):
    loss: Tensor | None = None
    frame_loss: Tensor | None = None
    target_std: Tensor | None = None
    predictions: Tensor | None = None
    clip_losses: Tensor | None = None


class ToyForPreTraining(PreTrainedModel):
    config: ToyConfig
    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    collapse_meters = {"target_std": (1e-3, None)}

    def __init__(self, config):
        super().__init__(config)
        self.encoder, self.teacher = (
            nn.Sequential(nn.Linear(WIDTH, config.hidden_size), nn.GELU(), nn.Linear(config.hidden_size, WIDTH))
            for _ in range(2)
        )
        self.teacher.requires_grad_(False)
        self.idle = nn.Linear(2, 2) if config.idle_layer else None
        self.register_buffer("updates", torch.zeros(()))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=0.5)
            init.zeros_(module.bias)

    @property
    def skips_layers(self):
        return self.config.idle_layer

    def after_optimizer_step(self, step):
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.encoder.parameters()):
                old.lerp_(new, 1 - self.config.ema_decay)
        self.updates.fill_(step)

    def forward(self, input_values, masked=None, poison=None, return_loss=True):
        if masked is None:
            masked = torch.rand(input_values.shape[:2], device=input_values.device) < 0.5
        predictions = self.encoder(input_values * ~masked[..., None])
        targets = self.teacher(input_values)
        loss = (predictions - targets).square().mean()
        if poison is not None:
            loss = loss + poison.mean()
        clip_losses = (predictions - targets).square().mean(dim=(1, 2))
        return ToyOutput(loss, loss.detach(), targets.flatten(0, 1).std(dim=0).mean(), predictions, clip_losses)


class ToyExtractor(FeatureExtractionMixin):
    """(samples,) -> (frames, width), the samples as they are."""

    def __init__(self, sampling_rate=16000, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.sampling_rate, self.gain = sampling_rate, gain

    def __call__(self, audio, sampling_rate=None, return_tensors="pt", device=None):
        return BatchFeature({"input_values": self.gain * torch.stack(audio).to(device).unflatten(1, (FRAMES, WIDTH))})


class ToyClips(torch.utils.data.Dataset):
    """`masks`: every clip brings its mask. `poison`: {index: value} added to its loss, from an epoch on. `groups`:
    names; clip i is of group i modulo their number. `weights`: of clips, for the sampler.
    """

    def __init__(self, clips=40, masks=False, poison=None, poison_from=0, groups=(), weights=None):
        self.clips, self.masks, self.poison_from = clips, masks, poison_from
        self.group_names, self.weights = tuple(groups), weights
        self.poison = {int(index): float(value) for index, value in (poison or {}).items()}

    def __len__(self):
        return self.clips

    def __getitem__(self, key):
        epoch, index = key
        rng = np.random.default_rng((epoch, index))
        clip = {"audio": torch.from_numpy(rng.standard_normal(FRAMES * WIDTH, dtype=np.float32)), "index": index}
        if self.group_names:
            clip["group"] = index % len(self.group_names)
        if self.masks:
            clip["masked"] = torch.from_numpy(rng.random(FRAMES) < 0.5)
        if self.poison:
            clip["poison"] = torch.tensor(self.poison.get(index, 0.0) if epoch >= self.poison_from else 0.0)
        return clip


def toy_collate(clips):
    extra = {name: torch.stack([clip[name] for clip in clips]) for name in ("masked", "poison") if name in clips[0]}
    return {**collate_clips(clips), **extra}


def toy_run(output_dir, *, clips=None, config=None, extractor=None, probe=None, **arguments):
    torch.manual_seed(0)
    defaults = {
        "max_steps": 6,
        "per_device_batch_size": 4,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "weight_decay": 0.1,
    }
    args = PretrainingArguments(output_dir=str(output_dir), **{**defaults, **arguments})
    model = ToyForPreTraining(ToyConfig(**(config or {})))
    clips = clips if isinstance(clips, ToyClips) else ToyClips(**(clips or {}))
    result = pretrain(model, ToyExtractor(**(extractor or {})), clips, args, probe=probe, collate_fn=toy_collate)
    return model, result


# -- the nursery ------------------------------------------------------------------------------------------------------


def _child(job, rank, processes, port):
    if processes > 1:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        )  # fmt: skip
    torch.set_num_threads(1)
    sys.stderr = open(job["output_dir"] + f".rank{rank}.err", "a")
    model, result = toy_run(job["output_dir"], clips=job["clips"], config=job["config"], **job["arguments"])
    digest = [float(parameter.detach().double().sum()) for parameter in model.parameters()]
    Path(job["output_dir"], f"rank{rank}.json").write_text(
        json.dumps({"sums": digest, "skipped": result.skipped_steps})
    )


def _die_at(save):
    """Have SIGKILL hit this process in its `save`-th checkpoint, between weights and optimizer state."""
    whole = ToyExtractor.save_pretrained
    saves = itertools.count(1)

    def half(self, folder, **kwargs):
        whole(self, folder, **kwargs)
        if next(saves) == save:
            os.kill(os.getpid(), signal.SIGKILL)

    ToyExtractor.save_pretrained = half


def _start(job, die_at_save=None):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(job.get("processes", 1)):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if die_at_save:
                    _die_at(die_at_save)
                _child(job, rank, job.get("processes", 1), port)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(pid)
    return children


def _newest(output_dir):
    found = checkpoints.checkpoints(Path(output_dir))
    return found[-1].name if found else ""


def _killed_run(job):
    """Kill the job `kills` times, each time a random while after it has made a new checkpoint."""
    rng, kills, unfinished = random.Random(job["kill_seed"]), 0, 0
    while kills < job["kills"]:
        before, children = _newest(job["output_dir"]), _start(job)
        began = time.monotonic()
        while _newest(job["output_dir"]) == before and time.monotonic() - began < 30:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, job["kill_within"]))
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        signals = [os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0 for status in statuses]
        if signals != [signal.SIGKILL] * len(children):
            return {"error": f"only {kills} kills before the end"}
        kills += 1
        unfinished += bool(list(Path(job["output_dir"]).glob(".writing-*")))
    return {"kills": kills, "unfinished": unfinished, "reached": _newest(job["output_dir"])}


def main():
    for line in sys.stdin:
        job = json.loads(line)
        report = _killed_run(job) if job["kills"] else {}
        if job["die_at_save"]:
            (child,) = _start(job, job["die_at_save"])
            report["died_of"] = os.WTERMSIG(os.waitpid(child, 0)[1])
            report["reached"] = _newest(job["output_dir"])
        statuses = [os.waitpid(pid, 0)[1] for pid in _start(job)]
        print(json.dumps({**report, "statuses": statuses}), flush=True)


if __name__ == "__main__":
    main()

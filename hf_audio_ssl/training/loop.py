# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The pre-training loop, on Accelerate. It knows the output contract of the models and not one method.

Everything random in a step (masks, dropout, dither) follows from (seed, step, accumulation step, process index): torch
is reseeded before each forward pass. The order of the clips and their crops follow from the seed too. So a run that is
killed and resumed needs no random state, and on a CPU ends with the same weights, bit for bit, as an undisturbed one.
"""

import hashlib
import inspect
import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from hf_audio_ssl.audio.augment import crop_to_shortest, vary_spectrum
from hf_audio_ssl.data.dataset import ClipDataset, GlobalBatchSampler, StreamingClipDataset, collate_clips
from hf_audio_ssl.training import checkpoint as checkpoints
from hf_audio_ssl.training.arguments import PretrainingArguments
from hf_audio_ssl.training.optimizer import build_optimizer
from hf_audio_ssl.training.plots import plot_history

logger = logging.getLogger(__name__)

LOG_FILE, RUN_FILE = "log.jsonl", "run.json"


class NonFiniteLossError(RuntimeError):
    """The loss or the gradients were not finite for too many steps in a row."""


@dataclass(frozen=True)
class PretrainingResult:
    """What a run leaves: `output_dir` (a model folder), `steps` taken, of them `skipped_steps` for a loss that was not
    finite, and `history`, the records of `log.jsonl`."""

    output_dir: Path
    steps: int
    skipped_steps: int
    history: list[dict[str, Any]]


def pretrain(
    model,
    feature_extractor,
    dataset,
    args: PretrainingArguments,
    *,
    probe: Callable[[Any, int], dict[str, float]] | None = None,
    collate_fn: Callable[[list], dict] = collate_clips,
) -> PretrainingResult:
    """Pre-train `model`; resume where `args.output_dir` holds a checkpoint.

    Writes into `args.output_dir`: `checkpoint-*` folders, `log.jsonl` (a record every `logging_steps`), `run.json`
    (settings and effective batch), plots, and at the end the model itself. With several processes (`accelerate
    launch`) each calls this; they have to see the same `output_dir`.

    Args:
        model: a `...ForPreTraining`. Every 0-dim float field of its output is logged, and the means of `clip_losses`
            (batch,), if it has them, for each group of the data set (domain, language); `after_optimizer_step(n)` is
            called after the n-th update.
        feature_extractor: turns `batch["audio"]` into the model's inputs, on the model's device.
        dataset: a `ClipDataset` (or another map-style one; its items are asked for as `dataset[epoch, index]`), or
            a `StreamingClipDataset`.
        probe: `probe(model, step) -> {name: value}`, called every `args.probe_steps` on the main process, the model
            in eval mode; logged as `probe_<name>`.
        collate_fn: makes a dict with `audio` of a list of items. Entries that `model.forward` names are passed on.

    Raises:
        CheckpointError: a checkpoint cannot be written, or belongs to a run with other settings.
        NonFiniteLossError: `args.max_nan_steps` steps in a row were skipped.
        ValueError: a tracker that is not installed, nothing to train, audio that the extractor refuses.
    """
    return _Run(model, feature_extractor, dataset, args, probe, collate_fn).train()


class _Run:
    """One call of `pretrain`. `state` is what a checkpoint holds beside weights and optimizer."""

    def __init__(self, model, feature_extractor, dataset, args, probe, collate_fn):
        self.args, self.feature_extractor, self.dataset, self.collate_fn = args, feature_extractor, dataset, collate_fn
        self.probe = probe if args.probe_steps else None
        self.output_dir = Path(args.output_dir)
        if args.cpu_threads:
            torch.set_num_threads(args.cpu_threads)
        self.accelerator = accelerator = _accelerator(args, model)
        self.is_main = accelerator.is_main_process
        if self.is_main:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            checkpoints.remove_unfinished(self.output_dir)
        accelerator.wait_for_everyone()

        settings = _settings(model, feature_extractor, dataset, args, accelerator.num_processes)
        self.state = {"step": 0, "updates": 0, "skipped": 0, "seconds": 0.0, "last_record": [0, 0.0]}
        self.state |= {"meters": None, "groups": None}
        source = checkpoints.find_checkpoint(self.output_dir, args.resume)
        if source:
            self.state = checkpoints.read_state(source)
            _check_same_run(source, self.state["settings"], settings)
            self._say(f"resuming from {source}")
        self.state["settings"] = settings

        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        self.arguments = _named_arguments(model.forward)
        self.collapse_meters = getattr(model, "collapse_meters", {})
        optimizer = build_optimizer(model, args, accelerator.device)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.own = accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if source:
            checkpoints.load_checkpoint(accelerator, self.model, source)
        self.meters = _Meters(accelerator, self.state["meters"])
        self.groups = _GroupMeters(accelerator, getattr(dataset, "group_names", ()), self.state.get("groups"))
        self.log = _Log(self.output_dir / LOG_FILE, self.state["step"], accelerator.is_main_process)
        self.outside: set[str] = set()  # collapse meters out of their range at the last record
        self.announced = False
        self.pusher = _Pusher(args) if args.push_to_hub and self.is_main else None
        if args.trackers():
            settings = {
                name: value if isinstance(value, int | float) else str(value) for name, value in asdict(args).items()
            }
            accelerator.init_trackers("pretraining", config=settings)

    def train(self) -> PretrainingResult:
        args, state = self.args, self.state
        if state["step"] == 0 and self.probe:
            self._run_probe()
        batches = iter(self._loader())
        began = time.monotonic() - state["seconds"]
        skipped_in_a_row = 0
        with tqdm(total=args.max_steps, initial=state["step"], desc="pre-training", disable=not self.is_main) as bar:
            while state["step"] < args.max_steps:
                updated = self._step(batches)
                skipped_in_a_row = 0 if updated else skipped_in_a_row + 1
                if skipped_in_a_row == args.max_nan_steps:
                    self._give_up(skipped_in_a_row)
                bar.update()
                step, last = state["step"], state["step"] == args.max_steps
                state["seconds"] = time.monotonic() - began
                if last or step % args.logging_steps == 0:
                    record = self._record()
                    bar.set_postfix({name: f"{record[name]:.4g}" for name in ("loss", "lr") if name in record})
                if self.probe and (last or step % args.probe_steps == 0):
                    self._run_probe()
                # not in the middle of a bad spell: buffers that the forward pass writes may hold NaN
                if last or (step % args.save_steps == 0 and updated):
                    self._save()
        return self._finish()

    # -- one step -----------------------------------------------------------------------------------------------------

    def _step(self, batches) -> bool:
        """One global batch: `gradient_accumulation_steps` passes, one optimizer step. False if that was skipped."""
        args, state, accelerator = self.args, self.state, self.accelerator
        rate = args.learning_rate_at(state["step"])
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        outputs = []
        for micro in range(args.gradient_accumulation_steps):
            _reseed(args.seed, state["step"], micro, accelerator.process_index)
            batch = next(batches)
            inputs = self._inputs(batch)
            # gradients travel between processes once a step, with the last pass
            is_last = micro == args.gradient_accumulation_steps - 1
            with nullcontext() if is_last else accelerator.no_sync(self.model):
                output = self.model(**inputs)
                # divides by the number of passes
                accelerator.backward(_poison_if_not_finite(output.loss))
            fields = {name: value.detach() for name, value in output.items() if _is_scalar(value)}
            outputs.append((fields, batch.get("group"), output.get("clip_losses")))

        # The gradients are averaged over processes by now, so all see the same norm and take the same decision.
        # Reading it makes the host wait for the device once per optimizer step. The device then idles for a launch or
        # two, against hundreds in a step; and a bad step touches no weights, teacher or moments of Adam.
        norm = accelerator.clip_grad_norm_(self.model.parameters(), args.max_grad_norm or float("inf"))
        finite = bool(torch.isfinite(norm))
        if finite or accelerator.scaler is not None:  # the fp16 scaler skips by itself, and has to lower its scale
            self.optimizer.step()
        self.optimizer.zero_grad()
        state["step"] += 1
        if finite:
            state["updates"] += 1
            if hasattr(self.own, "after_optimizer_step"):  # a native transformers model has none
                self.own.after_optimizer_step(state["updates"])
            for fields, groups, clip_losses in outputs:
                self.meters.add({**fields, "grad_norm": norm.detach()})
                self.groups.add(groups, clip_losses)
        else:
            state["skipped"] += 1
        return finite

    def _inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Features of `batch["audio"]` on the device, and those other entries that the model's forward names."""
        device, rate = self.accelerator.device, self.feature_extractor.sampling_rate
        audio = crop_to_shortest(batch["audio"]) if self.args.crop_to_shortest else batch["audio"]
        features = self.feature_extractor(audio, sampling_rate=rate, return_tensors="pt", device=device)
        inputs = dict(features.to(device))
        if self.args.mel_shift or self.args.spectral_tilt:
            inputs["input_values"] = vary_spectrum(
                inputs["input_values"], shift=self.args.mel_shift, tilt=self.args.spectral_tilt
            )
        for name, value in batch.items():
            if name in self.arguments:
                inputs[name] = value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        if not self.announced:
            self._announce(audio, inputs[self.own.main_input_name])
        return inputs

    def _loader(self) -> DataLoader:
        """Endless batches of this process from the current step on. The sampler shards them, not Accelerate."""
        args, accelerator, dataset = self.args, self.accelerator, self.dataset
        share = {
            "num_processes": accelerator.num_processes,
            "process_index": accelerator.process_index,
            "start_step": self.state["step"] * args.gradient_accumulation_steps,
        }
        if isinstance(dataset, StreamingClipDataset):
            if dataset.batch_size != args.per_device_batch_size:
                raise ValueError(
                    f"dataset: its batch_size is {dataset.batch_size}, expected per_device_batch_size="
                    f"{args.per_device_batch_size}"
                )
            vars(dataset).update(share)
            how = {"batch_size": None}
        else:
            weights = getattr(dataset, "weights", None)
            sampler = GlobalBatchSampler(
                len(dataset), args.per_device_batch_size, seed=args.seed, weights=weights, **share
            )
            how = {"batch_sampler": sampler, "collate_fn": self.collate_fn}
        return DataLoader(dataset, num_workers=args.num_workers, pin_memory=accelerator.device.type == "cuda", **how)

    # -- what is written and said -------------------------------------------------------------------------------------

    def _say(self, message: str, level: int = logging.INFO) -> None:
        if self.is_main:
            logger.log(level, message)

    def _announce(self, audio: list[Tensor], features: Tensor) -> None:
        """The effective batch, estimated from the first one, before the first step."""
        self.announced = True
        clips, rate = self.state["settings"]["clips_per_step"], self.feature_extractor.sampling_rate
        seconds = clips * sum(len(wave) for wave in audio) / len(audio) / rate
        batch = {"clips": clips, "seconds": round(seconds, 3), "input_steps": clips * features.shape[1]}
        trainable = sum(p.numel() for p in self.own.parameters() if p.requires_grad)
        layout = self.state["settings"]["processes"]
        self._say(
            f"effective batch: {clips} clips ({layout['per_device_batch_size']} at a time x "
            f"{layout['gradient_accumulation_steps']} accumulated x {layout['number']} processes), {seconds:,.1f} s "
            f"of audio, {batch['input_steps']:,} input steps (a clip: {tuple(features.shape[1:])}); "
            f"{trainable:,} parameters learn"
        )
        if self.is_main:
            run = {
                "model_class": type(self.own).__name__,
                "trainable_parameters": trainable,
                "effective_batch": batch,
                "processes": layout["number"],
                "device": str(self.accelerator.device),
                "arguments": asdict(self.args),
                "collapse_meters": self.collapse_meters,
                "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")},
            }
            checkpoints.write_whole(self.output_dir / RUN_FILE, json.dumps(run, indent=1) + "\n")

    def _record(self) -> dict[str, Any]:
        """Write the means since the last record, and warn where they look like collapse. Every process calls it."""
        state = self.state
        step, seconds = state["step"], state["seconds"]
        since, then = state["last_record"]
        state["last_record"] = [step, seconds]
        clips = (step - since) * state["settings"]["clips_per_step"]
        record = {
            "step": step,
            "lr": self.args.learning_rate_at(step - 1),
            "seconds": round(seconds, 3),
            "clips_per_second": round(clips / max(seconds - then, 1e-9), 3),
            "skipped_steps": state["skipped"],
            **self.meters.means(),
            **self.groups.means(),
        }
        self.meters = _Meters(self.accelerator)
        self.groups = _GroupMeters(self.accelerator, self.groups.names)
        if self.accelerator.device.type == "cuda":
            record["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.log.write(record)
        self.accelerator.log({name: value for name, value in record.items() if name != "step"}, step=step)
        outside = {
            name
            for name, (low, high) in self.collapse_meters.items()
            if name in record and not (low is None or record[name] >= low) & (high is None or record[name] <= high)
        }
        for name in sorted(outside - self.outside):
            low, high = self.collapse_meters[name]
            self._say(
                f"step {step}: {name} is {record[name]:.4g}, normal is {'-inf' if low is None else low} to "
                f"{'inf' if high is None else high}: the model may be collapsing",
                logging.WARNING,
            )
        self.outside = outside
        return record

    def _run_probe(self) -> None:
        if self.is_main:
            self.own.eval()
            with torch.no_grad():
                values = self.probe(self.own, self.state["step"])
            self.own.train()
            values = {f"probe_{name}": float(value) for name, value in values.items()}
            self.log.write({"step": self.state["step"], **values})
            self.accelerator.log(values, step=self.state["step"])
            self._say(
                f"step {self.state['step']}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            )
        self.accelerator.wait_for_everyone()

    def _save(self) -> Path:
        state = {**self.state, "meters": self.meters.saved(), "groups": self.groups.saved()}
        keep = self.args.save_total_limit
        path = checkpoints.save_checkpoint(
            self.accelerator, self.model, self.feature_extractor, self.output_dir, state, limit=keep
        )
        if self.pusher:
            self.pusher.push(path)
        return path

    def _give_up(self, steps: int) -> None:
        saved = checkpoints.checkpoints(self.output_dir)
        raise NonFiniteLossError(
            f"loss or gradients were not finite for {steps} steps in a row, up to step {self.state['step']}. "
            + (f"The last good checkpoint is {saved[-1]}. " if saved else "There is no checkpoint yet. ")
            + "A lower learning_rate, a longer warm-up or mixed_precision='bf16' instead of 'fp16' may help."
        )

    def _finish(self) -> PretrainingResult:
        if self.is_main:
            newest = checkpoints.checkpoints(self.output_dir)[-1]
            checkpoints.copy_model(newest, self.output_dir)
            plot_history(self.log.records, self.output_dir, self.collapse_meters)
            if self.pusher:
                self.pusher.finish(self.output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.trackers():
            self.accelerator.end_training()
        return PretrainingResult(
            self.output_dir, self.state["step"], self.state["skipped"], _read_records(self.output_dir / LOG_FILE)
        )


class _Meters:
    """Sums of scalars since the last record, on the device; read only when a record or a checkpoint is due."""

    def __init__(self, accelerator: Accelerator, saved: dict[str, list] | None = None):
        self.accelerator, self.sums, self.counts = accelerator, {}, {}
        for name, (totals, count) in (saved or {}).items():
            own = accelerator.process_index if len(totals) == accelerator.num_processes else slice(None)
            self.sums[name] = torch.tensor(totals, device=accelerator.device)[own].mean()
            self.counts[name] = count

    def add(self, fields: dict[str, Tensor]) -> None:
        for name, value in fields.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def saved(self) -> dict[str, list]:
        """`{name: [[sum on each process], count]}`. Every process calls it."""
        if not self.sums:
            return {}
        totals = self.accelerator.gather(torch.stack(list(self.sums.values()))[None])
        return {name: [column, self.counts[name]] for name, column in zip(self.sums, totals.T.tolist())}

    def means(self) -> dict[str, float]:
        """Means over the steps since the last record and over processes. Every process calls it."""
        return {name: sum(totals) / len(totals) / count for name, (totals, count) in self.saved().items()}


class _GroupMeters:
    """Mean loss of the clips of each group (domain, language) since the last record; summed on the device."""

    def __init__(self, accelerator: Accelerator, names: tuple[str, ...], saved: list | None = None):
        self.accelerator, self.names = accelerator, names
        self.totals = torch.zeros(2, len(names), device=accelerator.device)  # losses, clips
        if saved:
            totals = torch.tensor(saved, device=accelerator.device)
            if len(totals) == accelerator.num_processes:
                self.totals = totals[accelerator.process_index]
            elif accelerator.is_main_process:  # resumed on another number of processes: one of them carries all
                self.totals = totals.sum(dim=0)

    def add(self, groups: Tensor | None, losses: Tensor | None) -> None:
        if groups is not None and losses is not None:
            losses = losses.detach().float()
            rows = torch.stack([losses, torch.ones_like(losses)])
            self.totals.index_add_(1, groups.to(losses.device, non_blocking=True), rows)

    def saved(self) -> list:
        """Losses and clips of each group, for each process. Every process calls it."""
        return self.accelerator.gather(self.totals[None]).tolist() if self.names else []

    def means(self) -> dict[str, float]:
        """`{"group_loss/<name>": mean}` of the groups that came up. Every process calls it."""
        totals = np.sum(self.saved(), axis=0).tolist() if self.names else ((), ())
        return {f"group_loss/{name}": total / n for name, total, n in zip(self.names, *totals) if n}


class _Log:
    """`log.jsonl`. Resuming drops what was logged after the checkpoint, and a line that a kill left half written."""

    def __init__(self, path: Path, step: int, is_main: bool):
        self.path, self.is_main, self.records = path, is_main, []
        if is_main:
            if step:
                self.records = [record for record in _read_records(path) if record["step"] <= step]
            checkpoints.write_whole(path, "".join(json.dumps(record) + "\n" for record in self.records))

    def write(self, record: dict[str, Any]) -> None:
        if self.is_main:
            self.records.append(record)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def _read_records(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]  # what follows the last newline is empty, or half a line


class _Pusher:
    """Uploads checkpoints one at a time beside the training. A failed upload is a warning, not the end of the run."""

    def __init__(self, args: PretrainingArguments):
        self.repo_id, self.pool, self.running = args.hub_model_id, ThreadPoolExecutor(1), None

    def push(self, folder: Path) -> None:
        """Start uploading `folder`, unless an upload is under way: then a later checkpoint will go."""
        if self.running is None or self.running.done():
            self.running: Future | None = self.pool.submit(self._push, folder)

    def finish(self, folder: Path) -> None:
        """Upload `folder` and wait for it."""
        self.pool.submit(self._push, folder)
        self.pool.shutdown(wait=True)

    def _push(self, folder: Path) -> None:
        from hf_audio_ssl.hub import push

        try:
            push(folder, self.repo_id, commit_message=f"Upload {folder.name}")
        except Exception as error:  # the network, the token, a checkpoint deleted meanwhile: training goes on
            logger.warning("%s could not be pushed to %s: %s", folder, self.repo_id, error)


def _accelerator(args: PretrainingArguments, model) -> Accelerator:
    from accelerate.tracking import filter_trackers

    for name in args.trackers():
        if not filter_trackers(name, args.output_dir):
            raise ValueError(f"report_to={args.report_to!r}: the tracker {name} is not installed")
    # A second run in one process, say in a notebook, may ask for another precision; the process group stays.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    return Accelerator(
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=args.trackers() or None,
        project_config=ProjectConfiguration(args.output_dir, logging_dir=str(Path(args.output_dir) / "runs")),
        dynamo_backend="inductor" if args.torch_compile else None,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=getattr(model, "skips_layers", False))],
    )


def _settings(model, feature_extractor, dataset, args: PretrainingArguments, processes: int) -> dict[str, Any]:
    """On what the weights after n steps depend, in plain JSON types."""
    training = args.trajectory()
    layout = {name: training.pop(name) for name in ("per_device_batch_size", "gradient_accumulation_steps")}
    config = model.config.to_diff_dict()
    for name in ("transformers_version", "architectures", "_name_or_path", "dtype"):
        config.pop(name, None)
    settings = {
        "model_class": type(model).__name__,
        "model": config,
        "features": feature_extractor.to_dict(),
        "training": training,
        "clips": None if isinstance(dataset, StreamingClipDataset) else len(dataset),
        "clips_per_step": layout["per_device_batch_size"] * layout["gradient_accumulation_steps"] * processes,
        "processes": {"number": processes, **layout},
    }
    weights = getattr(dataset, "weights", None)
    if weights is not None:
        settings["sampling"] = _digest(np.asarray(weights, np.float64).tobytes())
    if isinstance(dataset, ClipDataset | StreamingClipDataset):
        settings["data"] = dict(vars(dataset.cropper))
    if isinstance(dataset, ClipDataset):
        paths = [dataset.corpus.path(index) for index in range(len(dataset))]
        # relative ones: a folder may move between two runs
        above = os.path.commonprefix([min(paths), max(paths)]).rfind(os.sep) + 1
        settings["data"]["files"] = _digest("\n".join(path[above:] for path in paths).encode())
    return json.loads(json.dumps(settings, default=str))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _check_same_run(folder: Path, saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Refuse other settings; another split of the same global batch over processes only changes masks, and is said."""
    saved, current = dict(saved), dict(current)
    before, now = saved.pop("processes"), current.pop("processes")
    checkpoints.check_same_run(folder, saved, current)
    if before != now:
        logger.warning(
            "resuming %s with %s instead of %s: the same clips in each step, but other masks", folder, now, before
        )


def _named_arguments(forward: Callable) -> set[str]:
    """Names of the arguments of `forward`. Not `**kwargs`: a batch's `index` must not get in by accident."""
    parameters = inspect.signature(forward).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind != inspect.Parameter.VAR_KEYWORD}


def _reseed(*numbers: int) -> None:
    """Seed torch on every device with a hash of `numbers`: neighbouring steps get unrelated streams."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)


def _poison_if_not_finite(loss: Tensor) -> Tensor:
    """The loss; times NaN if it is infinite. Then the gradients are NaN on every process."""
    return loss * torch.where(torch.isfinite(loss.detach()), 1.0, float("nan"))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()

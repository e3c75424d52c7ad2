# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What a pre-training run can be told, and the YAML recipes that tell it."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from hf_audio_ssl import schedules

MixedPrecision = Literal["no", "bf16", "fp16"]
Schedule = Literal[schedules.LEARNING_RATE_SCHEDULES]


# Arguments that leave the weights after n steps as they are. The others must not change when a run is resumed
# (torch_compile among them: compiled code draws other random numbers).
FREE_ARGUMENTS = frozenset(
    """output_dir gradient_checkpointing num_workers cpu_threads logging_steps save_steps
    save_total_limit resume report_to probe_steps max_nan_steps push_to_hub hub_model_id""".split()
)


def _option(default, text: str):
    return field(default=default, metadata={"help": text})


@dataclass
class PretrainingArguments:
    """Arguments of `pretrain`. A `ValueError` at construction names the argument, what came and what is expected."""

    output_dir: str = _option("pretrained", "Folder for checkpoints, log and plots. Made if it does not exist.")
    max_steps: int = _option(1000, "Number of optimizer steps. The learning-rate schedule ends here.")
    per_device_batch_size: int = _option(
        16,
        "Clips that one process puts through the model at a time. The effective batch is this times "
        "gradient_accumulation_steps times the number of processes. Lower it if memory runs out.",
    )
    gradient_accumulation_steps: int = _option(
        1, "Batches whose gradients are averaged before one optimizer step: a larger batch in the same memory."
    )
    learning_rate: float = _option(5e-4, "Highest learning rate, reached at the end of the warm-up.")
    warmup_steps: int = _option(0, "Steps over which the learning rate grows from 0 to learning_rate.")
    lr_schedule: Schedule = _option("cosine", "How the learning rate falls after the warm-up.")
    min_lr: float = _option(0.0, "Learning rate at the end of the schedule.")
    hold_steps: int = _option(0, "Only for tri_stage: steps at learning_rate between warm-up and decay.")
    weight_decay: float = _option(
        0.05, "Decoupled weight decay of AdamW. Biases and 1-d parameters (norms) have none."
    )
    adam_beta1: float = _option(0.9, "AdamW: decay of the mean of the gradients.")
    adam_beta2: float = _option(0.95, "AdamW: decay of the mean of the squared gradients.")
    adam_epsilon: float = _option(1e-8, "AdamW: added to the denominator.")
    max_grad_norm: float = _option(
        1.0, "Gradients are scaled down to this norm when theirs is larger. 0 switches it off."
    )
    mixed_precision: MixedPrecision = _option(
        "no", "no: float32. bf16: faster on recent GPUs and as safe. fp16: for older GPUs, with a loss scaler."
    )
    gradient_checkpointing: bool = _option(
        False, "Recompute activations in the backward pass: less memory, about a third slower."
    )
    torch_compile: bool = _option(False, "Compile the model: a slow first step, faster ones after. Pays on a GPU.")
    clip_seconds: float | None = _option(
        None,
        "Length of the training clips in seconds: longer files are cut at a random place, shorter ones are padded. "
        "Empty: whole files; for spectrogram methods, as much as features.max_length frames hold.",
    )
    crop_to_shortest: bool = _option(
        False,
        "Cut the clips of a batch at random places to the length of the shortest, instead of padding them: as wav2vec "
        "2.0 was trained. Takes clips of similar length.",
    )
    mel_shift: int = _option(
        0, "Augmentation for spectrogram methods: move each clip by up to this many mel bins, as another voice would."
    )
    spectral_tilt: float = _option(
        0.0, "Augmentation for spectrogram methods: lean each spectrum by up to this, in normalised units."
    )
    num_workers: int = _option(
        0, "Processes that read and decode audio beside the training process. 0: it does so itself."
    )
    cpu_threads: int = _option(0, "Threads that torch may use on the CPU, in each process. 0: leave torch's default.")
    seed: int = _option(0, "Everything random (weights, order, crops, masks) follows from it.")
    logging_steps: int = _option(10, "Steps between two lines of log.jsonl; each is the mean since the last.")
    save_steps: int = _option(500, "Steps between two checkpoints. One more is written at the end.")
    save_total_limit: int | None = _option(2, "Checkpoints to keep; older ones are deleted. Empty: keep all.")
    resume: str = _option(
        "auto",
        "auto: go on from the newest complete checkpoint in output_dir, if there is one. never: start afresh, and "
        "refuse an output_dir that has checkpoints. Or the folder of a checkpoint.",
    )
    report_to: str = _option("none", "Comma-separated names of Accelerate trackers (tensorboard, wandb ...), or none.")
    probe_steps: int = _option(
        0,
        "Steps between two runs of the probe, which also runs before the first and after the last. 0: there is no "
        "probe.",
    )
    max_nan_steps: int = _option(
        25,
        "Steps in a row whose loss or gradients are not finite (each is skipped and counted) after which the run "
        "stops. With fp16 the loss scaler needs up to about 16 such steps to find its scale.",
    )
    push_to_hub: bool = _option(False, "Upload every checkpoint to the Hub, in the background.")
    hub_model_id: str | None = _option(None, "Hub repository for push_to_hub, such as user/name.")

    def __post_init__(self):
        at_least = {
            "max_steps": 1, "per_device_batch_size": 1, "gradient_accumulation_steps": 1, "warmup_steps": 0,
            "hold_steps": 0, "weight_decay": 0, "max_grad_norm": 0, "min_lr": 0, "num_workers": 0, "cpu_threads": 0,
            "seed": 0, "logging_steps": 1, "save_steps": 1, "save_total_limit": 1, "probe_steps": 0,
            "max_nan_steps": 1, "mel_shift": 0, "spectral_tilt": 0,
        }  # fmt: skip
        # not dataclasses.fields(): HfArgumentParser overwrites the types there
        for name, annotation in get_type_hints(type(self)).items():
            value = check_type(name, getattr(self, name), annotation)
            setattr(self, name, value)
            if value is not None and name in at_least and not value >= at_least[name]:
                raise ValueError(f"{name}={value!r}: expected at least {at_least[name]}")
        for name in ("learning_rate", "adam_epsilon"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a positive number")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a number in [0, 1)")
        if self.clip_seconds is not None and not 0 < self.clip_seconds < float("inf"):
            raise ValueError(f"clip_seconds={self.clip_seconds!r}: expected a positive number of seconds, or nothing")
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr={self.min_lr!r}: expected at most learning_rate={self.learning_rate!r}")
        if self.warmup_steps + self.hold_steps > self.max_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} + hold_steps={self.hold_steps}: expected at most "
                f"max_steps={self.max_steps}"
            )
        if self.hold_steps and self.lr_schedule != "tri_stage":
            raise ValueError(
                f"hold_steps={self.hold_steps}: only lr_schedule='tri_stage' holds, got {self.lr_schedule!r}"
            )
        if self.min_lr and self.lr_schedule == "constant":
            raise ValueError(f"min_lr={self.min_lr!r}: lr_schedule='constant' does not fall, expected 0")
        if self.lr_schedule == "inverse_sqrt" and not self.warmup_steps:
            raise ValueError(
                "warmup_steps=0: lr_schedule='inverse_sqrt' decays from the end of the warm-up, expected at least 1"
            )
        if self.push_to_hub and not self.hub_model_id:
            raise ValueError("push_to_hub=True: expected hub_model_id, the repository to upload to")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of the update after `step` completed ones."""
        return schedules.learning_rate(
            self.lr_schedule,
            peak=self.learning_rate,
            total_steps=self.max_steps,
            warmup_steps=self.warmup_steps,
            floor=self.min_lr,
            hold_steps=self.hold_steps,
        )(step)

    def trackers(self) -> list[str]:
        """Names of the Accelerate trackers in `report_to`."""
        return [name.strip() for name in self.report_to.split(",") if name.strip() not in ("", "none")]

    def trajectory(self) -> dict[str, Any]:
        """The arguments on which the weights after n steps depend."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in FREE_ARGUMENTS}


def check_type(name: str, value: Any, annotation: Any) -> Any:
    """`value`, an integral float (YAML's `1e3`) as an integer where one is expected.

    Raises `ValueError` for another type than `annotation`: plain types, unions of them, or a `Literal`.
    """
    options = get_args(annotation)
    if get_origin(annotation) is Literal:
        if value not in options:
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(options)}")
        return value
    types = options or (annotation,)
    if int in types and isinstance(value, float) and value.is_integer():
        return int(value)
    accepted = (*types, int) if float in types else types
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in types):
        names = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in types)
        raise ValueError(f"{name}={value!r}: expected {names}")
    return value


@dataclass(frozen=True)
class Recipe:
    """A recipe file: which method, and what differs from the defaults of its config, extractor, data and arguments.

    `probe` says on which labelled data the encoder is probed every `probe_steps`; empty: not at all.
    """

    method: str | None
    model: dict[str, Any]
    features: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    probe: dict[str, Any] = field(default_factory=dict)


def make_arguments(values: dict[str, Any], where: str = "training") -> PretrainingArguments:
    """`PretrainingArguments(**values)`, but unknown names give a `ValueError` that lists them and the known ones."""
    known = [spec.name for spec in dataclasses.fields(PretrainingArguments)]
    refuse_unknown(values, known, where)
    return PretrainingArguments(**values)


def refuse_unknown(values: dict[str, Any], known: list[str] | tuple[str, ...], where: str) -> None:
    """Raise a `ValueError` that lists the keys of `values` that are not `known`."""
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; expected some of {', '.join(known)}")


_CORPUS = ("split", "config", "streaming", "audio_column", "include", "num_clips")
_GROUPS = ("group_column", "label_pattern", "group_folders")
_LABELS = ("label_column", *_GROUPS)
# arguments of `open_corpus`, of `group_weights`, of `ClipDataset`, of `make_probe`
DATASET_KEYS = {
    "corpus": (*_CORPUS, *_GROUPS),
    "sampling": ("group_exponent", "group_factors"),
    "clips": ("random_crop", "min_seconds", "speed_perturb", "gain_db", "cache_audio", "max_skipped_share"),
    "probe corpus": tuple(key for key in _CORPUS if key != "streaming") + _LABELS,
    "probe": ("probes", "pool", "layers", "batch_size"),
}


# what a recipe's `data:` and `probe:` may set
DATA_KEYS = ("dataset", *DATASET_KEYS["corpus"], *DATASET_KEYS["sampling"], *DATASET_KEYS["clips"])
PROBE_KEYS = ("dataset", *DATASET_KEYS["probe corpus"], *DATASET_KEYS["probe"])


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-5` and `1.0e3` as text, for want of a dot or of a sign; here they are numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_yaml(text: str, where: str) -> Any:
    """The content of a YAML document. Raises `ValueError`, which begins with `where`, if it is none."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {error}") from error


def load_blocks(path: str | Path, blocks: Sequence[str], values: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a YAML recipe: every one of `blocks` as a dictionary, empty if it is not there, and `values`.

    Raises `ValueError` naming the file if it cannot be read, or holds anything else.
    """
    where = f"recipe {str(path)!r}"
    try:
        content = load_yaml(Path(path).read_text(encoding="utf-8"), where)
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not YAML: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected blocks such as `training:`, got {type(content).__name__}")
    refuse_unknown(content, (*values, *blocks), where)
    for block in blocks:
        content[block] = content.get(block) or {}
        if not isinstance(content[block], dict):
            raise ValueError(f"{where}: `{block}:` must hold names and values, got {content[block]!r}")
    return content


def load_recipe(path: str | Path) -> Recipe:
    """Read a YAML recipe: `method:` (a name) and the blocks of `Recipe`, all optional.

    The blocks hold overrides of the method's config, of its feature extractor, of the data set's options
    (`DATA_KEYS`), and of `PretrainingArguments`. Raises `ValueError` naming the file and the key for anything else;
    `run_pretraining` checks the keys of `model:` and `features:`, once it knows the method.
    """
    where = f"recipe {str(path)!r}"
    blocks = [spec.name for spec in dataclasses.fields(Recipe)]
    content = load_blocks(path, blocks[1:], blocks[:1])
    refuse_unknown(content["data"], DATA_KEYS, f"{where}, block `data:`")
    refuse_unknown(content["probe"], PROBE_KEYS, f"{where}, block `probe:`")
    try:
        make_arguments(content["training"], f"{where}, block `training:`")
    except ValueError as error:
        message = str(error)
        raise ValueError(message if "block" in message else f"{where}, {message}") from error
    return Recipe(**{block: content.get(block) for block in blocks})

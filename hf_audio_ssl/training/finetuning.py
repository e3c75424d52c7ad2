# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Supervised fine-tuning of any method for clip classification, in full or with LoRA, on `transformers.Trainer`.

What audio recipes need beyond `Trainer`: features computed on the device, mixup and SpecAugment, soft targets, a
learning rate that falls towards the input layers, and sampling that balances classes. The result is a folder that
`pipeline("audio-classification")` opens.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import EvalPrediction

from hf_audio_ssl.audio.augment import mixup, noise_and_roll, roll_waveform, sample_beta, spec_augment
from hf_audio_ssl.data.corpus import Corpus, open_corpus
from hf_audio_ssl.data.dataset import ClipDataset, class_balanced_weights, collate_clips, seconds_to_crop
from hf_audio_ssl.losses.classification import classification_loss
from hf_audio_ssl.registry import from_pretrained
from hf_audio_ssl.training.arguments import check_type, load_blocks, refuse_unknown
from hf_audio_ssl.training.optimizer import parameter_groups

# name of a loss -> (sigmoid instead of softmax, reduction of the binary cross-entropy)
LOSSES = {
    "cross_entropy": (False, "mean"),
    "bce": (True, "mean"),
    "bce_per_label": (True, "labels"),
    "bce_per_clip": (True, "batch"),
}
# blocks of a recipe, and the arguments that hold what they override
OVERRIDES = {"model": "config_overrides", "features": "feature_overrides", "data": "data_options"}
# fields of the model's config that are not to be overridden, and the argument that each follows from
FOLLOWS_FROM = {
    "num_labels": "dataset", "id2label": "dataset", "label2id": "dataset", "vocab_size": "dataset",
    "pad_token_id": "dataset", "problem_type": "loss", "classifier_loss_reduction": "loss",
    "label_smoothing": "label_smoothing_factor",
}  # fmt: skip
# what a recipe's `data:` may set: arguments of `open_corpus`, and of ours
CORPUS_KEYS = (
    "config", "audio_column", "label_column", "group_column", "label_names", "label_pattern", "group_folders",
    "include", "num_clips", "seed",
)  # fmt: skip
DATA_ARGUMENTS = ("dataset", "train_split", "eval_split", "clip_seconds", "cache_audio")


@dataclass
class SupervisedArguments(TrainingArguments):
    """`TrainingArguments` with what every fine-tuning needs: which model, which data, full or LoRA."""

    model: str | None = field(default=None, metadata={"help": "Folder or Hub id of a pre-trained model."})
    dataset: str | None = field(default=None, metadata={"help": "Folder, Hub data set name, or 'synthetic'."})
    train_split: str | None = field(default=None, metadata={"help": "Split to train on, where there are splits."})
    eval_split: str | None = field(
        default=None, metadata={"help": "Split to evaluate on; without it a part of the training split is held out."}
    )
    eval_share: float = field(
        default=0.2,
        metadata={"help": "Share of the clips held out without eval_split: whole groups (speakers) where known."},
    )
    data_options: dict | None = field(default=None, metadata={"help": "More arguments of open_corpus."})
    cache_audio: bool = field(default=False, metadata={"help": "Keep decoded clips in memory: for small data sets."})
    config_overrides: dict | None = field(default=None, metadata={"help": "Model config fields to change."})
    feature_overrides: dict | None = field(default=None, metadata={"help": "Feature extractor fields to change."})

    lora: bool = field(
        default=False, metadata={"help": "Train low-rank adapters (and the head) instead of the encoder."}
    )
    lora_rank: int = field(default=8, metadata={"help": "Rank of the adapters."})
    lora_alpha: float = field(default=16.0, metadata={"help": "Scale of the adapters: alpha / rank."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout before the adapters."})
    lora_targets: list[str] = field(
        default_factory=lambda: ["q_proj", "v_proj"],
        metadata={"help": "Names of the linear layers to adapt, or all-linear.", "nargs": "+"},
    )
    lora_merge: bool = field(
        default=True, metadata={"help": "Also save a complete model with the adapters merged into the weights."}
    )

    # changed default of TrainingArguments
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: batches hold waveforms."})

    def __post_init__(self):
        self.check_range("eval_share", 0, 1)
        refuse_unknown(self.data_options or {}, CORPUS_KEYS, "data_options")
        if self.remove_unused_columns:
            raise ValueError("`remove_unused_columns` must be False: the model does not name the waveforms of a batch")
        super().__post_init__()

    def check_range(self, name: str, low: float, high: float) -> None:
        """Raises `ValueError` unless the argument `name`, if given, lies between `low` and `high`."""
        value = getattr(self, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"`{name}` must lie between {low} and {high}, got {value}")


@dataclass
class FinetuningArguments(SupervisedArguments):
    """For classification: the optimizer defaults of EAT's fine-tuning (arXiv 2401.03497), and what they lack."""

    clip_seconds: float | None = field(
        default=None,
        metadata={
            "help": "Crop longer clips to this many seconds, at random places in training and to the start in "
            "evaluation. Not given: whole clips; for spectrogram methods, as much as features.max_length frames hold."
        },
    )

    loss: str | None = field(
        default=None,
        metadata={
            "help": "cross_entropy (default for one label per clip); bce, a mean over clips and classes (default for "
            "several labels per clip); bce_per_label, summed and divided by the labels (AudioSet); bce_per_clip, "
            "summed and divided by the clips (Speech Commands).",
            "choices": list(LOSSES),
        },
    )
    layer_decay: float = field(
        default=1.0, metadata={"help": "Factor on the learning rate of each layer against the layer above it."}
    )
    mixup_alpha: float = field(
        default=0.0, metadata={"help": "Parameter of mixup's Beta(alpha, alpha); 0 = no mixup."}
    )
    mixup_prob: float = field(default=0.9, metadata={"help": "Share of the batches that are mixed."})
    specaug_ratio: float = field(
        default=0.0, metadata={"help": "Largest share of frames and of mels hidden; 0 = none."}
    )
    specaug_mel_ratio: float | None = field(
        default=None, metadata={"help": "Largest share of mels hidden, where it is not specaug_ratio."}
    )
    roll: bool = field(default=False, metadata={"help": "Rotate waveforms in time and vary their level."})
    noise: bool = field(default=False, metadata={"help": "Noise and a small shift on features (Speech Commands)."})
    weighted_sampling: bool = field(default=False, metadata={"help": "Draw clips of rare classes more often."})
    samples_per_epoch: int | None = field(default=None, metadata={"help": "Clips per epoch of weighted sampling."})

    # changed defaults of TrainingArguments
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate of the top layers and the head."})
    weight_decay: float = field(default=0.05, metadata={"help": "On matrices; vectors and biases have none."})
    adam_beta2: float = field(default=0.95, metadata={"help": "Adam's second beta."})
    lr_scheduler_type: str = field(default="cosine_with_min_lr", metadata={"help": "Schedule after the warm-up."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Updates, or a share of all updates if below 1."})

    def __post_init__(self):
        if self.loss is not None and self.loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        for name in ("mixup_prob", "specaug_ratio", "specaug_mel_ratio", "layer_decay"):
            self.check_range(name, 0, 1)
        if self.mixup_alpha < 0:
            raise ValueError(f"`mixup_alpha` must not be negative, got {self.mixup_alpha}")
        if self.lora and self.layer_decay != 1:
            raise ValueError("`layer_decay` is for full fine-tuning: with `lora` it must be 1")
        if self.samples_per_epoch is not None and (not self.weighted_sampling or self.samples_per_epoch < 1):
            raise ValueError(
                f"`samples_per_epoch` must be positive, and only `weighted_sampling` has it, got "
                f"{self.samples_per_epoch} with weighted_sampling={self.weighted_sampling}"
            )
        if self.lr_scheduler_type == "cosine_with_min_lr" and self.lr_scheduler_kwargs is None:
            self.lr_scheduler_kwargs = {"min_lr_rate": 0.02}  # EAT: from 5e-5 down to 1e-6
        super().__post_init__()


@dataclass(frozen=True)
class FinetuningResult:
    """`metrics` of the last evaluation, `history` as the Trainer logged it, and where the models lie."""

    output_dir: Path
    metrics: dict[str, float]
    history: list[dict]
    adapter_dir: Path | None = None


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The stack of layers of the encoder: the `nn.ModuleList` below the base model that holds the most parameters."""
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(model.base_model).__name__} holds no nn.ModuleList of layers: no layer-wise decay")
    return max(lists, key=lambda layers: sum(p.numel() for p in layers.parameters()))


def layer_decay_groups(
    model: PreTrainedModel, *, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict]:
    """The optimizer groups of `parameter_groups`, each split by learning rate.

    Layer `i` of `depth` trains at `learning_rate * layer_decay ** (depth - i)`; embeddings, norms outside the layers
    and the head train at the full rate (EAT's fine-tuning, where BEiT would also slow the embeddings).
    """
    scale = {}
    if layer_decay != 1:
        layers = encoder_layers(model)
        for i, layer in enumerate(layers):
            scale |= {parameter: layer_decay ** (len(layers) - i) for parameter in layer.parameters()}
    groups = {}
    for group in parameter_groups(model, weight_decay):
        for parameter in group["params"]:
            groups.setdefault((scale.get(parameter, 1.0), group["weight_decay"]), []).append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * factor, "weight_decay": decay}
        for (factor, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


class EpochWeightedSampler(torch.utils.data.Sampler):
    """Draws with replacement in proportion to `weights`; the draw depends on the seed and the epoch only."""

    def __init__(self, weights: Sequence[float], num_samples: int, seed: int):
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        self.num_samples, self.seed, self.epoch = num_samples, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.multinomial(self.weights, self.num_samples, replacement=True, generator=generator).tolist()


def collate(clips: list[dict]) -> dict:
    """`collate_clips` with the waveforms padded to `audio` (batch, samples), and their `lengths`."""
    batch = collate_clips(clips)
    # labels come first: the Trainer reads the batch size from the first tensor
    return {
        "labels": batch["labels"],
        "audio": nn.utils.rnn.pad_sequence(batch["audio"], batch_first=True),
        "lengths": [len(wave) for wave in batch["audio"]],
    }


def classification_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy for class ids; mean average precision, ROC area and d-prime for multi-hot labels."""
    from hf_audio_ssl.evaluation import scores

    logits, labels = prediction.predictions, prediction.label_ids
    if labels.ndim == 1:
        return {"accuracy": scores.accuracy(logits.argmax(-1), labels)}
    return {
        "mAP": scores.mean_average_precision(logits, labels),
        "roc_auc": scores.roc_auc(logits, labels),
        "d_prime": scores.d_prime(logits, labels),
    }


class _TellEpoch(TrainerCallback):
    """The crops of a `ClipDataset` follow from the epoch, which Accelerate's loader does not tell the data set where
    it splits batches over processes.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if hasattr(train_dataloader.dataset, "set_epoch"):
            train_dataloader.dataset.set_epoch(int(state.epoch + 1e-6))


class SupervisedTrainer(Trainer):
    """`Trainer` over waveforms: a batch's `audio` (batch, samples) of `lengths` becomes features on the device.

    `processing_class` is the feature extractor. All randomness of a step is drawn from torch's global generators,
    which `Trainer` saves and restores with its checkpoints.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(_TellEpoch)
        # losses are means over the batch: the Trainer must divide them by the accumulation steps itself
        self.model_accepts_loss_kwargs = False

    def _prepare_inputs(self, inputs: dict) -> dict:
        inputs = super()._prepare_inputs(inputs)
        audio, lengths = inputs.pop("audio"), inputs.pop("lengths")
        if self.model.training:
            audio = self._vary(audio, lengths)
        features = self.processing_class(
            [wave[:length] for wave, length in zip(audio, lengths)],
            sampling_rate=self.processing_class.sampling_rate,
            return_tensors="pt",
            device=audio.device,
        )
        return {**inputs, **features}

    def _vary(self, audio: Tensor, lengths: list[int]) -> Tensor:
        """Augmentation of the waveforms in training."""
        return audio


class FinetuningTrainer(SupervisedTrainer):
    """Classification: augmentation and loss are batched on the device too."""

    def __init__(self, *args, sample_weights: Sequence[float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.sample_weights = sample_weights
        self.label_smoother = None  # it takes class ids only; smoothing is part of the loss below

    def _get_train_sampler(self, train_dataset=None):
        if self.sample_weights is None:
            return super()._get_train_sampler(train_dataset)
        count = self.args.samples_per_epoch or len(self.sample_weights)
        return EpochWeightedSampler(self.sample_weights, count, self.args.data_seed or self.args.seed)

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            model = self.model if model is None else model
            groups = layer_decay_groups(
                model,
                learning_rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                layer_decay=self.args.layer_decay,
            )
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def _vary(self, audio: Tensor, lengths: list[int]) -> Tensor:
        if self.args.roll:
            audio = roll_waveform(audio, lengths=torch.tensor(lengths, device=audio.device))
        return audio

    def _augment(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Noise, then mixup, then SpecAugment on `(batch, ...)` features and `(batch, classes)` targets."""
        args = self.args
        if features.ndim == 2 and (args.noise or args.specaug_ratio > 0 or args.specaug_mel_ratio):
            raise ValueError(
                f"noise={args.noise}, specaug_ratio={args.specaug_ratio}: this model takes waveforms, not spectrograms"
            )
        if args.noise:
            features = noise_and_roll(features)
        if args.mixup_alpha > 0:
            lam = sample_beta(args.mixup_alpha, args.mixup_alpha, device=features.device)
            skip = torch.rand((), device=features.device) >= args.mixup_prob
            features, targets = mixup(features, targets, lam.masked_fill(skip, 1.0))
        mel_ratio = args.specaug_ratio if args.specaug_mel_ratio is None else args.specaug_mel_ratio
        if args.specaug_ratio > 0 or mel_ratio > 0:
            features = spec_augment(features, freq_ratio=mel_ratio, time_ratio=args.specaug_ratio)
        return features, targets

    def compute_loss(self, model, inputs: dict, return_outputs: bool = False, num_items_in_batch=None):
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        sigmoid, reduction = LOSSES[self.args.loss]
        targets, smoothing = labels, 0.0
        if labels.ndim == 1 and (sigmoid or model.training):
            targets = F.one_hot(labels, self.model.config.num_labels).float()
        if model.training:
            smoothing = self.args.label_smoothing_factor
            name = self.processing_class.model_input_names[0]
            inputs[name], targets = self._augment(inputs[name], targets)
        outputs = model(**inputs)
        loss = classification_loss(
            outputs.logits.float(), targets, multi_label=sigmoid, reduction=reduction, label_smoothing=smoothing
        )
        return (loss, outputs) if return_outputs else loss


def add_lora(model: PreTrainedModel, args: SupervisedArguments):
    """Freeze the encoder and put adapters into its linear layers; the head is trained in full."""
    from peft import LoraConfig, get_peft_model

    # modules that only norm stay frozen: an affine in front of a linear layer adds nothing that the layer cannot learn
    head = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(p.ndim > 1 for p in module.parameters())
    ]
    targets = args.lora_targets[0] if args.lora_targets == ["all-linear"] else args.lora_targets
    config = LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=targets,
        modules_to_save=head,
    )
    return get_peft_model(model, config)


def finetune(
    model: PreTrainedModel,
    feature_extractor,
    train_dataset,
    args: FinetuningArguments,
    *,
    eval_dataset=None,
    sample_weights: Sequence[float] | None = None,
    callbacks: Sequence = (),
) -> FinetuningResult:
    """Fine-tune a model with a classification head and save it with its feature extractor to `args.output_dir`.

    Args:
        model: a `...ForAudioClassification` with `config.num_labels` classes.
        feature_extractor: the one it was pre-trained with; takes a list of waveforms on any device.
        train_dataset, eval_dataset: items `{"audio": float32 (samples,), "label": int or multi-hot float32}`, as
            `ClipDataset` gives them; the latter make the task multi-label.
        sample_weights: one per training clip, with `args.weighted_sampling`.
        callbacks: further `TrainerCallback`s.

    With `args.lora` the adapter is saved to `output_dir/adapter`, and the merged model to `output_dir` if
    `args.lora_merge`.
    """
    multi_label = isinstance(train_dataset[0]["label"], Tensor)
    args = dataclasses.replace(args, loss=args.loss or ("bce" if multi_label else "cross_entropy"))
    sigmoid, reduction = LOSSES[args.loss]
    if multi_label and not sigmoid:
        raise ValueError("clips with several labels need one of the bce losses, got loss='cross_entropy'")
    if sigmoid and args.label_smoothing_factor:
        raise ValueError(
            f"`label_smoothing_factor` is for loss='cross_entropy', got {args.label_smoothing_factor} with "
            f"loss={args.loss!r}"
        )
    # the loss that the saved model computes of labels is the one it was trained with
    model.config.problem_type = "multi_label_classification" if sigmoid else "single_label_classification"
    for name, value in (("classifier_loss_reduction", reduction), ("label_smoothing", args.label_smoothing_factor)):
        if hasattr(model.config, name):  # a config of transformers' own has none
            setattr(model.config, name, value)
    trainer = FinetuningTrainer(
        model=add_lora(model, args) if args.lora else model,
        args=args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        data_collator=collate,
        processing_class=feature_extractor,
        compute_metrics=classification_metrics,
        sample_weights=sample_weights if args.weighted_sampling else None,
        callbacks=list(callbacks),
    )
    return train_and_save(trainer, args)


def train_and_save(trainer: SupervisedTrainer, args: SupervisedArguments) -> FinetuningResult:
    """Train, save model and extractor (with LoRA the adapter, and the merged model beside it), evaluate."""
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    output_dir = Path(args.output_dir)
    adapter_dir = output_dir / "adapter" if args.lora else None
    trainer.save_model(str(adapter_dir or output_dir))
    metrics = trainer.evaluate() if trainer.eval_dataset is not None else {}
    if args.lora and args.lora_merge and trainer.is_world_process_zero():
        trainer.accelerator.unwrap_model(trainer.model).merge_and_unload().save_pretrained(output_dir)
        trainer.processing_class.save_pretrained(output_dir)
    return FinetuningResult(output_dir, metrics, trainer.state.log_history, adapter_dir)


def make_finetuning_arguments(
    values: dict[str, Any], recipe: str | Path | None = None, kind: type = FinetuningArguments
) -> SupervisedArguments:
    """`FinetuningArguments`, or another `kind`, from a YAML recipe and `values` that take precedence over it, key by
    key in dictionaries.

    A recipe has blocks as pre-training recipes have, all optional: `model:` (config overrides), `features:` (feature
    extractor overrides), `data:` (`DATA_ARGUMENTS`; the rest goes to `open_corpus`) and `training:` (the other
    arguments). The method is the model's. Raises `ValueError` for names that do not exist.
    """
    types = get_type_hints(kind)
    known = [spec.name for spec in dataclasses.fields(kind) if spec.init]
    blocks = load_blocks(recipe, (*OVERRIDES, "training")) if recipe else dict.fromkeys((*OVERRIDES, "training"), {})
    overrides = {name: {**blocks[block], **(values.get(name) or {})} for block, name in OVERRIDES.items()}
    data, own = overrides["data_options"], [name for name in DATA_ARGUMENTS if name in known]
    refuse_unknown(data, (*own, *CORPUS_KEYS), "data")
    merged = {
        **blocks["training"],
        **{name: data.pop(name) for name in own if name in data},
        **values,
        **{name: value or None for name, value in overrides.items()},
    }
    if unknown := [name for name in merged if name not in known]:
        raise ValueError(f"unknown fine-tuning arguments: {', '.join(unknown)}")
    for name, value in merged.items():
        if {int, float, bool} & {types[name], *get_args(types[name])}:  # transformers leaves numbers unchecked
            merged[name] = check_type(name, value, types[name])
    return kind(**merged)


def hold_out(corpus: Corpus, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clip indices to train on and to evaluate on, about `share` of the clips in the latter.

    Where the corpus knows groups (speakers, recordings), whole groups are held out; otherwise clips of every class, or
    of a multi-label corpus any clips.
    """
    if corpus.groups is not None:
        strata, units = np.zeros(len(set(corpus.groups))), np.unique(corpus.groups)
    else:
        strata, units = (
            (np.zeros(len(corpus)) if corpus.multi_label else np.array(corpus.labels)),
            np.arange(len(corpus)),
        )
    rng = np.random.default_rng(seed)
    held = []
    for stratum in np.unique(strata):
        members = rng.permutation(units[strata == stratum])
        held += members[: min(max(round(share * len(members)), 1), len(members) - 1)].tolist()
    is_held = np.isin(np.arange(len(corpus)) if corpus.groups is None else np.array(corpus.groups), held)
    if not is_held.any() or is_held.all():
        raise ValueError(f"eval_share: {share} of {len(units)} clips or groups leaves one of the two parts empty")
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def _with_label_names(corpus: Corpus, names: Sequence[str]) -> Corpus:
    """The same clips with class ids counted in `names`: an evaluation folder may lack some of the training classes."""
    if corpus.label_names == tuple(names):
        return corpus
    if unknown := [name for name in corpus.label_names if name not in names]:
        raise ValueError(f"eval_split: holds classes that the training split lacks: {', '.join(unknown[:5])}")
    ids = [names.index(name) for name in corpus.label_names]
    labels = [[ids[k] for k in row] if isinstance(row, list) else ids[row] for row in corpus.labels]
    return Corpus(corpus.sources, labels, names, corpus.groups, [corpus.path(i) for i in range(len(corpus))])


def open_labelled(args: SupervisedArguments, split: str | None) -> Corpus:
    corpus = open_corpus(args.dataset, split=split, **(args.data_options or {}))
    if not isinstance(corpus, Corpus):
        raise ValueError("dataset: fine-tuning draws clips at random, open it without streaming")
    if corpus.labels is None:
        raise ValueError(
            f"dataset: {args.dataset!r} has no labels; see `label_pattern` and `label_column` of open_corpus"
        )
    return corpus


def load_parts(args: SupervisedArguments, **fields) -> tuple[Any, Any]:
    """Config, with `fields`, and feature extractor of `args.model`; the overrides are applied.

    Raises `ValueError` for overrides that do not exist or follow from arguments.
    """
    config_overrides, feature_overrides = args.config_overrides or {}, args.feature_overrides or {}
    for name in config_overrides:
        if name in FOLLOWS_FROM:
            raise ValueError(f"config_overrides: {name} follows from the argument `{FOLLOWS_FROM[name]}`, set that")
    config, unused = AutoConfig.from_pretrained(
        args.model, return_unused_kwargs=True, **{**fields, **config_overrides}
    )
    if unused:
        raise ValueError(f"config_overrides: {type(config).__name__} has no {', '.join(unused)}")
    extractor = from_pretrained("AutoFeatureExtractor", args.model)
    if unknown := [name for name in feature_overrides if not hasattr(extractor, name)]:
        raise ValueError(f"feature_overrides: {type(extractor).__name__} has no {', '.join(unknown)}")
    return config, from_pretrained("AutoFeatureExtractor", args.model, **feature_overrides)


def load_for_finetuning(args: FinetuningArguments, label_names: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    """The model of `args.model` with a classification head, and its feature extractor, with the overrides applied."""
    labels = {"id2label": dict(enumerate(label_names)), "label2id": {name: i for i, name in enumerate(label_names)}}
    config, extractor = load_parts(args, **labels)
    # a fine-tuned model may be the start for another set of classes: then its head does not fit, and is replaced
    model = AutoModelForAudioClassification.from_pretrained(args.model, config=config, ignore_mismatched_sizes=True)
    return model, extractor


def open_clips(corpus: Corpus, extractor, args: SupervisedArguments, **options) -> ClipDataset:
    """The clips of a part of the data. Unreadable ones, and those shorter than a window, are listed in
    `skipped.jsonl`."""
    return ClipDataset(
        corpus,
        extractor.sampling_rate,
        seed=args.seed,
        min_seconds=extractor.min_samples("max_length") / extractor.sampling_rate,
        cache_audio=args.cache_audio,
        skipped_path=Path(args.output_dir) / "skipped.jsonl",
        **options,
    )


def readable(clips: ClipDataset, num_workers: int = 0) -> list[int]:
    """Indices of the clips that can be read; reads each once.

    In the place of an unreadable clip a `ClipDataset` gives another one: fit for training, but in evaluation it would
    count twice.
    """
    loader = DataLoader(
        clips, batch_size=32, collate_fn=collate_clips, num_workers=num_workers, generator=torch.Generator()
    )
    found = torch.cat([batch["index"] for batch in loader])
    return torch.nonzero(found == torch.arange(len(clips)))[:, 0].tolist()


def run_finetuning(args: FinetuningArguments, *, callbacks: Sequence = ()) -> FinetuningResult:
    """Fine-tune `args.model` on `args.dataset` from names alone; what the command line and the example call.

    Beside the model, `results.json` holds the figures of the last evaluation in the form that model cards take.
    """
    for name in ("model", "dataset"):
        if getattr(args, name) is None:
            raise ValueError(f"`{name}` must be given")
    corpus = open_labelled(args, args.train_split)
    if args.eval_split is None:
        train, held = hold_out(corpus, args.eval_share, args.seed)
        corpus, eval_corpus = corpus.select(train), corpus.select(held)
    else:
        eval_corpus = _with_label_names(open_labelled(args, args.eval_split), corpus.label_names)
    set_seed(args.seed)  # the new head is drawn here
    model, extractor = load_for_finetuning(args, corpus.label_names)

    seconds = seconds_to_crop(extractor, args.clip_seconds)
    train_clips, eval_clips = (
        open_clips(part, extractor, args, clip_seconds=seconds, random_crop=random_crop)
        for part, random_crop in ((corpus, True), (eval_corpus, False))
    )
    result = finetune(
        model,
        extractor,
        train_clips,
        args,
        eval_dataset=Subset(eval_clips, readable(eval_clips, args.dataloader_num_workers)),
        sample_weights=class_balanced_weights(corpus.labels) if args.weighted_sampling else None,
        callbacks=callbacks,
    )
    write_results(result, args, "audio-classification", ("accuracy", "mAP", "roc_auc", "d_prime"))
    return result


def write_results(result: FinetuningResult, args: SupervisedArguments, task: str, figures: Sequence[str]) -> None:
    """`results.json` beside model and adapter: the figures of the last evaluation, as model cards take them, with the
    `base_model` where that is on the Hub."""
    if args.process_index:
        return
    folder = Path(args.dataset)
    dataset = folder.resolve().name if folder.is_dir() else args.dataset
    base_model = {} if Path(args.model).exists() else {"base_model": args.model}
    values = {name: result.metrics.get(f"eval_{name}") for name in figures}
    records = [
        {
            "task": task,
            "dataset": dataset,
            "split": args.eval_split or "held out",
            "metric": name,
            "value": round(value, 4),
            **base_model,
        }
        for name, value in values.items()
        if value is not None and math.isfinite(value)  # d-prime is infinite when every clip is ranked right
    ]
    for folder in {result.output_dir, result.adapter_dir} - {None}:
        (folder / "results.json").write_text(json.dumps(records, indent=2) + "\n")

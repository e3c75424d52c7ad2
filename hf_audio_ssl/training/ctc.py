# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Fine-tuning for speech recognition with CTC, in full or with LoRA, of any method with an `AutoModelForCTC`.

The symbols are the characters of the training transcripts. The result is a folder that
`pipeline("automatic-speech-recognition")` opens: weights, feature extractor and tokenizer.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset
from transformers import PreTrainedModel, Wav2Vec2CTCTokenizer, Wav2Vec2Processor, set_seed
from transformers.trainer_utils import EvalPrediction

from hf_audio_ssl import schedules
from hf_audio_ssl.data.corpus import Corpus
from hf_audio_ssl.data.dataset import ClipDataset
from hf_audio_ssl.evaluation.error_rate import error_rates
from hf_audio_ssl.registry import from_pretrained
from hf_audio_ssl.training.finetuning import (
    FinetuningResult,
    SupervisedArguments,
    SupervisedTrainer,
    add_lora,
    hold_out,
    load_parts,
    open_clips,
    open_labelled,
    readable,
    train_and_save,
    write_results,
)
from hf_audio_ssl.training.optimizer import parameter_groups

# CTC's blank is the padding symbol, at the id that transformers' configurations have for it
SPECIAL = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}


@dataclass
class CTCArguments(SupervisedArguments):
    """For speech recognition: wav2vec 2.0's schedule (arXiv 2006.11477, section 4.3 and appendix B).

    The transcript of a clip is its label: a column (`data_options.label_column`), or what the group `label` of
    `data_options.label_pattern` finds in the file name.
    """

    _VALID_DICT_FIELDS = [*SupervisedArguments._VALID_DICT_FIELDS, "words"]

    words: dict | str | None = field(
        default=None,
        metadata={"help": 'What a label stands for, as JSON: \'{"7": "seven"}\'. Not given: labels are transcripts.'},
    )
    drop_characters: str = field(
        default=r"[^\w' ]", metadata={"help": "Regular expression: what of a transcript is not spoken."}
    )
    freeze_feature_encoder: bool = field(default=True, metadata={"help": "Leave the convolutions as they are."})
    head_only_steps: int = field(
        default=0, metadata={"help": "Updates at the start in which only the new head learns."}
    )
    hold_share: float = field(default=0.4, metadata={"help": "Share of the updates at the peak learning rate."})
    final_lr_scale: float = field(default=0.05, metadata={"help": "Learning rate at the end, as a share of the peak."})

    # changed defaults of TrainingArguments
    learning_rate: float = field(default=3e-5, metadata={"help": "Peak learning rate."})
    lr_scheduler_type: str = field(default="tri_stage", metadata={"help": "Must stay tri_stage."})
    weight_decay: float = field(default=0.0, metadata={"help": "On matrices; vectors and biases have none."})
    adam_beta2: float = field(default=0.98, metadata={"help": "Adam's second beta."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Updates, or a share of all updates if below 1."})

    def __post_init__(self):
        self.check_range("hold_share", 0, 1)
        self.check_range("final_lr_scale", 0, 1)
        if self.head_only_steps < 0:
            raise ValueError(f"`head_only_steps` must not be negative, got {self.head_only_steps}")
        if self.label_smoothing_factor:
            raise ValueError(f"`label_smoothing_factor` does not exist for CTC, got {self.label_smoothing_factor}")
        if self.lr_scheduler_type != "tri_stage" or self.lr_scheduler_kwargs:
            raise ValueError(
                "the schedule is tri_stage, set by `warmup_steps`, `hold_share` and `final_lr_scale`; got "
                f"lr_scheduler_type={self.lr_scheduler_type!r}, lr_scheduler_kwargs={self.lr_scheduler_kwargs!r}"
            )
        self.lr_scheduler_type = "constant"  # transformers does not know ours, which `CTCTrainer` makes
        super().__post_init__()
        self.lr_scheduler_type = "tri_stage"


def spoken(text: str, drop_characters: str) -> str:
    """Lower case, without what is not spoken, single spaces."""
    return " ".join(re.sub(drop_characters, " ", text.lower()).split())


def make_tokenizer(transcripts: Sequence[str], folder: str | Path) -> Wav2Vec2CTCTokenizer:
    """A tokenizer of the characters in `transcripts`; its `vocab.json` is written into `folder`."""
    characters = sorted(set("".join(transcripts)) - {" "})
    vocabulary = SPECIAL | {character: len(SPECIAL) + i for i, character in enumerate(characters)}
    path = Path(folder) / "vocab.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    return Wav2Vec2CTCTokenizer(str(path))


class TranscribedClips(torch.utils.data.Dataset):
    """Clips whose labels are given as symbols: `symbols[class id]`."""

    def __init__(self, clips: ClipDataset, symbols: Sequence[list[int]]):
        self.clips, self.symbols = clips, symbols

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[index]
        return {"audio": clip["audio"], "symbols": torch.tensor(self.symbols[clip["label"]])}


def collate_transcripts(clips: list[dict]) -> dict:
    """Padded `labels` (batch, symbols), -100 where there is none, and `audio` (batch, samples) with its `lengths`."""
    audio, symbols = [clip["audio"] for clip in clips], [clip["symbols"] for clip in clips]
    return {
        "labels": nn.utils.rnn.pad_sequence(symbols, batch_first=True, padding_value=-100),
        "audio": nn.utils.rnn.pad_sequence(audio, batch_first=True),
        "lengths": [len(wave) for wave in audio],
    }


class CTCTrainer(SupervisedTrainer):
    """The three-stage schedule, and greedy decoding in evaluation."""

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            model = self.model if model is None else model
            encoder = {id(p) for name, p in model.named_parameters() if "lm_head" not in name}
            groups = [
                {"params": part, "weight_decay": group["weight_decay"]}
                for group in parameter_groups(model, self.args.weight_decay)
                for part in (
                    [p for p in group["params"] if id(p) in encoder],
                    [p for p in group["params"] if id(p) not in encoder],
                )
                if part
            ]
            self.is_encoder = [id(group["params"][0]) in encoder for group in groups]
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            args, optimizer = self.args, optimizer or self.optimizer

            def scale(step: int) -> float:
                return schedules.tri_stage(
                    step,
                    peak=1.0,
                    total_steps=num_training_steps,
                    warmup_steps=args.get_warmup_steps(num_training_steps),
                    hold_steps=int(args.hold_share * num_training_steps),
                    floor=args.final_lr_scale,
                )

            def encoder_scale(step: int) -> float:
                return scale(step) if step >= args.head_only_steps else 0.0

            scales = [encoder_scale if is_encoder else scale for is_encoder in self.is_encoder]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, scales)
        return self.lr_scheduler

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Loss, most likely symbol of each frame (the blank where there is padding), labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs)
        symbols = outputs.logits.argmax(dim=-1)
        if "attention_mask" in inputs:
            real = _real_frames(
                _base(self.accelerator.unwrap_model(self.model)), outputs.logits, inputs["attention_mask"]
            )
            symbols = symbols.masked_fill(~real, SPECIAL["<pad>"])
        return outputs.loss.detach(), symbols, inputs["labels"]


def _base(model) -> PreTrainedModel:
    """The encoder, under PEFT's wrapper or not."""
    return getattr(model, "get_base_model", lambda: model)().base_model


def _real_frames(base: PreTrainedModel, frames: Tensor, attention_mask: Tensor) -> Tensor:
    """Which of `frames` (batch, frames, ...) are not padding, (batch, frames)."""
    if hasattr(base, "split_tokens"):
        return base.split_tokens(frames, attention_mask)[2]
    return base._get_feature_vector_attention_mask(frames.shape[1], attention_mask)  # transformers' own classes


def transcript_metrics(tokenizer: Wav2Vec2CTCTokenizer) -> Callable[[EvalPrediction], dict[str, float]]:
    """Word and character error rate of greedy decoding."""

    def metrics(prediction: EvalPrediction) -> dict[str, float]:
        symbols, labels = (
            np.where(ids == -100, SPECIAL["<pad>"], ids) for ids in (prediction.predictions, prediction.label_ids)
        )
        heard = tokenizer.batch_decode(symbols)
        return error_rates(tokenizer.batch_decode(labels, group_tokens=False), heard)

    return metrics


def load_for_ctc(args: CTCArguments, vocabulary: int) -> tuple[PreTrainedModel, Any]:
    """The model of `args.model` with a new head for `vocabulary` symbols, and its extractor, with the overrides."""
    config, extractor = load_parts(
        args,
        vocab_size=vocabulary,
        pad_token_id=SPECIAL["<pad>"],
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
    )
    model = from_pretrained("AutoModelForCTC", args.model, config=config, ignore_mismatched_sizes=True)
    if args.freeze_feature_encoder:
        model.base_model.freeze_feature_encoder()
    return model, extractor


def run_ctc(args: CTCArguments, *, callbacks: Sequence = ()) -> FinetuningResult:
    """Fine-tune `args.model` on `args.dataset` from names alone.

    Beside the model, `results.json` holds the error rates of the last evaluation in the form that model cards take.

    Raises:
        ValueError: no model or data set, no transcripts, a label without an entry in `words`, an empty transcript.
    """
    for name in ("model", "dataset"):
        if getattr(args, name) is None:
            raise ValueError(f"`{name}` must be given")
    corpus = open_labelled(args, args.train_split)
    if args.eval_split is None:
        # transcripts are no classes to balance: clips, or groups, are held out at random
        clips = Corpus(range(len(corpus)), [[0]] * len(corpus), groups=corpus.groups)
        train, held = hold_out(clips, args.eval_share, args.seed)
        parts = corpus.select(train), corpus.select(held)
    else:
        parts = corpus, open_labelled(args, args.eval_split)
    texts = [transcripts(part, args) for part in parts]
    output_dir = Path(args.output_dir)
    tokenizer = make_tokenizer(texts[0], output_dir)
    set_seed(args.seed)  # the new head is drawn here
    model, extractor = load_for_ctc(args, len(tokenizer))
    clips = [open_clips(part, extractor, args) for part in parts]
    train_clips, eval_clips = (
        TranscribedClips(part, [tokenizer(text).input_ids for text in own]) for part, own in zip(clips, texts)
    )
    if args.lora:
        model = add_lora(model, args)
        # PEFT takes another number of symbols for resized word embeddings, and looks for some
        model.save_pretrained = functools.partial(model.save_pretrained, save_embedding_layers=False)
    trainer = CTCTrainer(
        model=model,
        args=args,
        train_dataset=train_clips,
        eval_dataset=Subset(eval_clips, readable(clips[1], args.dataloader_num_workers)),
        data_collator=collate_transcripts,
        processing_class=extractor,
        compute_metrics=transcript_metrics(tokenizer),
        callbacks=list(callbacks),
    )
    result = train_and_save(trainer, args)
    if trainer.is_world_process_zero():
        for folder in {result.output_dir, result.adapter_dir} - {None}:
            Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
            extractor.save_pretrained(folder)  # the pipeline reads this file
    write_results(result, args, "automatic-speech-recognition", ("wer", "cer"))
    return result


def transcripts(corpus: Corpus, args: CTCArguments) -> list[str]:
    """What each label of the corpus stands for, as it is spoken. Raises `ValueError` where that is nothing."""
    words: Mapping[str, str] | None = args.words
    if words is not None and (unknown := [name for name in corpus.label_names if name not in words]):
        raise ValueError(f"words: no entry for {', '.join(unknown[:5])}; there are entries for {', '.join(words)}")
    texts = [spoken(words[name] if words else name, args.drop_characters) for name in corpus.label_names]
    if empty := [name for name, text in zip(corpus.label_names, texts) if not text]:
        raise ValueError(f"drop_characters={args.drop_characters!r} leaves nothing of {empty[:3]}")
    return texts

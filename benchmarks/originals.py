#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Our models against the authors' own code, run from checkouts of it: same weights, same input, one process.

python benchmarks/originals.py --method beats --original unilm/beats
python benchmarks/originals.py --method audiomae --original AudioMAE                 # needs timm 0.3.2
python benchmarks/originals.py --method eat --original EAT --fairseq fairseq         # timm 0.9.12, omegaconf 2.0.6
python benchmarks/originals.py --method wav2vec2 --original fairseq                  # omegaconf 2.0.6

The original is built with random weights in the paper's base size (`--layers` of it). Its state dict goes through the
method's conversion script, and both must give the same before they are timed: what an encoder returns (largest
difference by largest value), or the losses and the norm of all gradients of a training step. Then they take turns;
"times as fast" is the median of the rounds' ratios. A step is forward, backward, AdamW, and the teacher's update.
Times are CPU time of one thread, which other jobs disturb less than the clock's.

No code of the originals is kept here: get them from microsoft/unilm (folder beats), facebookresearch/AudioMAE (not for
commercial use), cwx-worst-one/EAT and facebookresearch/fairseq; nothing of fairseq has to be compiled or installed.
"""

import argparse
import ast
import collections.abc
import dataclasses
import importlib
import importlib.util
import itertools
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from timing import machine, median, table, take_turns
from torch import Tensor, nn
from torch.nn import functional as F

from hf_audio_ssl.modules.quantizers import gumbel_one_hot

SCRIPTS = Path(__file__).resolve().parent.parent / "conversion_scripts"
Contest = tuple[str, Callable[[], object], Callable[[], object], float]


# ------------------------------------------------------------------------------------------------ importing originals
def load(name: str, path: Path) -> types.ModuleType:
    """The module in one file, under `name`."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class LazyPackage(types.ModuleType):
    """A package whose `__init__.py` is not run: the names that it imports from its modules are looked up when used."""

    def __init__(self, name: str, folder: Path, **names):
        super().__init__(name)
        self.__dict__["__path__"] = [str(folder)]
        init = folder / "__init__.py"
        nodes = ast.walk(ast.parse(init.read_text())) if init.exists() else []
        self.__dict__["homes"] = {
            alias.asname or alias.name: node.module
            for node in nodes
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
            for alias in node.names
        }
        self.__dict__.update(names)
        sys.modules[name] = self

    def __setattr__(self, name: str, value) -> None:
        # a module does not hide the function of its name
        if not (isinstance(value, types.ModuleType) and name in self.homes):
            super().__setattr__(name, value)

    def __getattr__(self, name: str):
        if name.startswith("__") or name not in self.homes:
            raise AttributeError(name)
        return getattr(importlib.import_module(f"{self.__name__}.{self.homes[name]}"), name)


def old_torch_and_numpy() -> None:
    """The names of old versions that timm 0.3.2 and Audio-MAE use."""
    six = sys.modules["torch._six"] = types.ModuleType("torch._six")
    six.container_abcs, six.inf = collections.abc, float("inf")
    np.float = float


def use_fairseq(folder: Path) -> None:
    """The parts of fairseq that models need; all of it needs an older Python, and compiled extensions."""
    # Python 3.11 refuses objects that cannot be hashed as defaults; without == they can
    dataclasses.dataclass = partial(dataclasses.dataclass, eq=False)

    class Model(nn.Module):
        def set_num_updates(self, step: int) -> None:
            pass

    root = folder / "fairseq"
    LazyPackage("fairseq", root)
    for name in ("modules", "dataclass", "data", "distributed", "models.wav2vec"):
        LazyPackage(f"fairseq.{name}", root / name.replace(".", "/"))
    LazyPackage("fairseq.tasks", root / "tasks", FairseqTask=object)
    LazyPackage(
        "fairseq.models", root / "models", BaseFairseqModel=Model, register_model=lambda *_, **__: lambda model: model
    )


def converted(method: str, state: dict, settings: dict) -> nn.Module:
    """Our model with the original's weights."""
    convert = load(f"convert_{method}", SCRIPTS / f"convert_{method}.py").convert
    return convert({"model": state}, settings)


# ----------------------------------------------------------------------------------------------------------- contests
def inference(name: str, ours: Callable[[], Tensor], original: Callable[[], Tensor]) -> Contest:
    """Both are functions of nothing that return the same tensor."""
    ours, original = torch.inference_mode()(ours), torch.inference_mode()(original)
    a, b = ours(), original()
    return name, ours, original, ((a - b).abs().max() / b.abs().max()).item()


def training(name: str, models: tuple, losses: tuple, after: tuple = (None, None)) -> Contest:
    """Training steps. They are compared in evaluation mode, so without dropout.

    Args:
        models, losses, after: each (ours, the original's); losses of the same batch with the same masks, and what
            follows the optimizer's step, which gets its number.
    """
    values, steps = [], []
    for model, loss, update in zip(models, losses, after):
        model.eval()
        value = loss()
        value.backward()
        gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        values.append((value.item(), torch.stack(gradients).norm().item()))
        model.train().zero_grad()
        steps.append(training_step(model, loss, update))
    return name, *steps, max(abs(a / b - 1) for a, b in zip(*values))


def training_step(model: nn.Module, loss: Callable[[], Tensor], update: Callable[[int], None] | None):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    numbers = itertools.count(1)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        if update is not None:
            update(next(numbers))

    return step


def masks(clips: int, patches: int, masked: int) -> Tensor:
    """Random masks (clips, patches) with as many masked patches in each."""
    return torch.rand(clips, patches).argsort(dim=1) < masked


# ------------------------------------------------------------------------------------------------------------ methods
def beats(args) -> Iterator[Contest]:
    """The authors published no pre-training; a step is one of fine-tuning the encoder."""
    sys.path.insert(0, str(args.original))
    theirs = importlib.import_module("BEATs")
    settings = dict(input_patch_size=16, deep_norm=True, dropout=0.0, attention_dropout=0.0, conv_pos_groups=16)
    settings |= dict(relative_position_embedding=True, gru_rel_pos=True, num_buckets=320, max_distance=800)
    settings |= dict(layer_wise_gradient_decay_ratio=0.6, encoder_layers=args.layers)
    original = theirs.BEATs(theirs.BEATsConfig(settings)).eval()
    ours = converted("beats", original.state_dict(), settings)
    extractor = ours.feature_extractor_class()
    waves = torch.randn(args.batch_size, 160 * 1024 + 240) / 10

    def from_waveform() -> Tensor:
        features = extractor(list(waves), sampling_rate=16000, padding=False, return_attention_mask=False)
        return ours(features["input_values"]).last_hidden_state

    yield inference("waveform to encoding", from_waveform, lambda: original.extract_features(waves)[0])
    spectrograms = original.preprocess(waves)
    original.preprocess = lambda *_, **__: spectrograms
    encoders = lambda: ours(spectrograms).last_hidden_state, lambda: original.extract_features(waves)[0]
    yield inference("encoder", *encoders)
    direction = torch.randn(768)
    losses = [lambda encode=encode: (encode() @ direction).square().mean() for encode in encoders]
    yield training("training step of the encoder", (ours, original), losses)


def audiomae(args) -> Iterator[Contest]:
    """With the released model's decoder of local windows. Ours is given the masks that the original draws."""
    old_torch_and_numpy()
    sys.path.insert(0, str(args.original))
    importlib.import_module("timm.models.layers")
    load("timm.models.swin_transformer", args.original / "timm_patch" / "swin_transformer.py")
    theirs = importlib.import_module("models_mae")
    original = theirs.MaskedAutoencoderViT(
        img_size=(1024, 128), in_chans=1, embed_dim=768, num_heads=12, depth=args.layers, audio_exp=True,
        contextual_depth=max(args.layers - 4, 0), decoder_mode=1, norm_pix_loss=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    ).eval()  # fmt: skip
    ours = converted("audiomae", original.state_dict(), {"img_size": (1024, 128), "num_heads": 12})
    x = torch.randn(args.batch_size, 1024, 128) / 2

    def encode() -> Tensor:
        states = ours.audiomae(x, output_hidden_states=True).hidden_states
        return ours.audiomae.contextual_embedding(states, original.contextual_depth + 1)

    yield inference("encoder", encode, lambda: original.forward_encoder_no_mask(x[:, None]))

    def original_encoder() -> tuple:
        torch.manual_seed(0)  # it draws the same masks every time
        return original.forward_encoder(x[:, None], 0.8)

    def original_loss() -> Tensor:
        encoded, mask, places, _ = original_encoder()
        return original.forward_loss(x[:, None], original.forward_decoder(encoded, places)[0], mask, True)

    mask = original_encoder()[1].bool()
    losses = lambda: ours(x, bool_masked_pos=mask).loss, original_loss
    yield training("pre-training step", (ours, original), losses)


def eat(args) -> Iterator[Contest]:
    """16 masks a clip, which are given: the authors draw them while they load data."""
    use_fairseq(args.fairseq)
    LazyPackage("original", args.original)
    LazyPackage("original.models", args.original / "models")
    theirs = importlib.import_module("original.models.EAT_pretraining")
    decoder = theirs.D2vImageConfig().decoder
    decoder.decoder_dim, decoder.decoder_kernel, decoder.decoder_layers, decoder.input_dropout = 768, 3, 6, 0.0
    image = theirs.D2vImageConfig(
        in_chans=1, inverse_mask=True, mask_prob=0.8, mask_prob_adjust=0.07, mask_length=5, mask_noise_std=0.0,
        ema_local_encoder=True, prenet_depth=0, num_extra_tokens=1, init_extra_token_zero=False, num_alibi_heads=12,
        model_depth=args.layers, decoder=decoder,
    )  # fmt: skip
    config = theirs.Data2VecMultiConfig(
        depth=args.layers, average_top_k_layers=args.layers, clone_batch=16, instance_norm_target_layer=True,
        layer_norm_targets=True, ema_decay=0.9998, ema_end_decay=0.99999, ema_anneal_end_step=100000,
        encoder_dropout=0.0, post_mlp_drop=0.0, attention_dropout=0.0, ema_encoder_only=False, cls_loss=1.0,
        min_target_var=0.0, min_pred_var=0.0, supported_modality=theirs.Modality.IMAGE,
    )  # fmt: skip
    config.modalities.image = image
    original = theirs.Data2VecMultiModel.build_model(config)
    settings = {"num_heads": 12, "clone_batch": 16, "modalities": {"image": {"mask_noise_std": 0.0}}}
    settings |= {"ema_decay": 0.9998, "ema_end_decay": 0.99999, "ema_anneal_end_step": 100000}
    ours = converted("eat", original.state_dict(), {"model": settings})
    x = torch.randn(args.batch_size, 1024, 128) / 2

    def encode_original() -> Tensor:
        return original(x[:, None], mask=False, features_only=True, remove_extra_tokens=False)["x"]

    yield inference("encoder", lambda: ours.eat(x).last_hidden_state, encode_original)

    mask = masks(args.batch_size * 16, 512, 410)

    def original_loss() -> Tensor:
        result = original(x[:, None], precomputed_mask=mask.float())
        return sum(loss.sum() for loss in result["losses"].values()) / result["sample_size"]

    losses = lambda: ours(x, bool_masked_pos=mask).loss, original_loss
    after = ours.after_optimizer_step, original.set_num_updates
    yield training("pre-training step", (ours, original), losses, after)


def wav2vec2(args) -> Iterator[Contest]:
    """The base recipe without LayerDrop. Masks and distractors are given; the original draws no Gumbel noise."""
    use_fairseq(args.original)
    theirs = importlib.import_module("fairseq.models.wav2vec.wav2vec2")
    settings = dict(encoder_layers=args.layers, final_dim=256, quantize_targets=True, feature_grad_mult=0.1)
    settings |= dict(dropout_input=0.1, dropout_features=0.1)
    original = theirs.Wav2Vec2Model(theirs.Wav2Vec2Config(**settings)).eval()
    ours = converted("wav2vec2", original.state_dict(), settings | {"loss_weights": [0.1, 10.0]})
    x = torch.randn(args.batch_size, 160000) / 10

    def encode_original() -> Tensor:
        return original(x, mask=False, features_only=True)["x"]

    yield inference("encoder", lambda: ours.wav2vec2(x).last_hidden_state, encode_original)

    frames, masked, distractors = 499, 240, 100
    mask = masks(args.batch_size, frames, masked)
    # which of the masked frames of the clip, and where they are
    which = torch.randint(masked - 1, (args.batch_size, masked, distractors))
    which += which >= torch.arange(masked)[:, None]
    places = mask.nonzero()[:, 1].view(args.batch_size, masked) + frames * torch.arange(args.batch_size)[:, None]
    negatives = torch.zeros(args.batch_size, frames, distractors, dtype=torch.long)
    negatives[mask] = places.gather(1, which.flatten(1)).view(-1, distractors)

    def given_negatives(y: Tensor, *_, **__) -> tuple[Tensor, Tensor]:
        rows = torch.arange(args.batch_size)[:, None, None]
        return y[rows, which].permute(2, 0, 1, 3), which

    def original_loss() -> Tensor:
        output = original(x, mask_indices=mask)
        logits, (diversity, penalty) = original.get_logits(output).float(), original.get_extra_losses(output)
        return F.cross_entropy(logits, original.get_targets(None, output)) + 0.1 * diversity + 10 * penalty

    original.sample_negatives = given_negatives
    F.gumbel_softmax = lambda logits, tau, hard: gumbel_one_hot(logits, tau)[0]
    # only in training mode does its choice of codes have a gradient
    original.quantizer.train().train = lambda mode=True: original.quantizer
    losses = lambda: ours(x, mask_time_indices=mask, sampled_negative_indices=negatives).loss, original_loss
    after = ours.after_optimizer_step, original.set_num_updates
    yield training("pre-training step", (ours, original), losses, after)


METHODS = {"beats": beats, "audiomae": audiomae, "eat": eat, "wav2vec2": wav2vec2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--original", type=Path, required=True, help="folder of the authors' checkout")
    parser.add_argument("--fairseq", type=Path, help="folder of a checkout of fairseq, if the original needs it")
    parser.add_argument("--layers", type=int, default=12, help="of the encoder (default: the paper's 12)")
    parser.add_argument("--batch_size", type=int, default=1, help="clips of 10 s")
    parser.add_argument("--repetitions", type=int, default=5, help="rounds in which the contestants take turns")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference that is accepted")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = []
    for name, ours, original, difference in METHODS[args.method](args):
        if not difference <= args.tolerance:
            raise SystemExit(f"{name}: ours differs from the original by {difference:.1e}")
        times = take_turns({"ours": ours, "original": original}, args.repetitions, clock=time.process_time)
        ratio = median([b / a for a, b in zip(times["ours"], times["original"])])
        rows.append([name, 1e3 * median(times["ours"]), 1e3 * median(times["original"]), ratio, f"{difference:.0e}"])
    print(f"{args.method}, {args.layers} layers, {args.batch_size} clip(s) of 10 s; {machine()}\n")
    print(table(["", "ours, ms", "original, ms", "times as fast", "relative difference"], rows))


if __name__ == "__main__":
    main()

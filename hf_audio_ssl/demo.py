# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""`make demo`: pre-train, probe, fine-tune, save and picture a small EAT on the built-in corpus."""

import json
import time
from pathlib import Path

import numpy as np
import torch

from hf_audio_ssl import EatFeatureExtractor, EatForPreTraining, EatModel
from hf_audio_ssl.audio import io
from hf_audio_ssl.data import open_corpus
from hf_audio_ssl.evaluation import embed_corpus, format_rows, run_probe
from hf_audio_ssl.hub import bundle, render_card
from hf_audio_ssl.training.finetuning import FinetuningArguments, run_finetuning
from hf_audio_ssl.training.run import run_pretraining

MODEL = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_time_patches": 64,
    "decoder_hidden_size": 128,
    "decoder_num_layers": 2,
    "decoder_groups": 4,
    "mask_block_size": 3,
    "num_clones": 4,
    "utterance_loss_reduction": "mean",
    "utterance_loss_weight": 1.0,
    "ema_decay": 0.99,
    "ema_end_decay": 0.999,
    "ema_anneal_steps": 500,
}
# statistics of the built-in corpus: hf-audio-ssl stats --dataset synthetic
FEATURES = {"max_length": 192, "mean": -6.93, "std": 4.56}
STEPS = 1000
TRAIN_CLIPS, PROBE_CLIPS = 1950, 520
PROBE_SEED = 1


def run_demo(output: Path, steps: int | None = None) -> None:
    """Writes `pretrained/`, `classifier/`, `results.json` and pictures into `output`."""
    started = time.time()
    output.mkdir(parents=True, exist_ok=True)

    title("1. pre-training without labels")
    run = run_pretraining(
        method="eat",
        dataset="synthetic",
        model=MODEL,
        features=FEATURES,
        data={"num_clips": TRAIN_CLIPS, "cache_audio": True},
        output_dir=str(output / "pretrained"),
        max_steps=steps or STEPS,
        per_device_batch_size=16,
        learning_rate=1e-3,
        warmup_steps=(steps or STEPS) // 10,
        max_grad_norm=4.0,
        clip_seconds=2.0,
        save_steps=500,
        logging_steps=20,
    )

    title("2. linear and kNN probes on clips that were never seen")
    corpus = open_corpus("synthetic", num_clips=PROBE_CLIPS, seed=PROBE_SEED)
    rows = run_probe(str(run.output_dir), corpus)
    print(format_rows(rows))

    title("3. fine-tuning with LoRA")
    tuned = run_finetuning(
        FinetuningArguments(
            output_dir=str(output / "classifier"),
            model=str(run.output_dir),
            dataset="synthetic",
            data_options={"num_clips": PROBE_CLIPS, "seed": PROBE_SEED},
            config_overrides={"classifier_pooling": "mean"},
            cache_audio=True,
            lora=True,
            lora_targets=["all-linear"],
            learning_rate=2e-3,
            max_steps=400,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=32,
            specaug_ratio=0.2,
            save_strategy="no",
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
        )
    )
    accuracy = tuned.metrics["eval_accuracy"]
    print(f"accuracy on held-out clips: {accuracy:.1%}")

    title("4. cards, code for the Hub, pictures")
    for folder, facts in ((run.output_dir, {"history": run.history}), (tuned.output_dir, {})):
        render_card(folder, license="apache-2.0", **facts).save(Path(folder) / "README.md")
        bundle(folder)
    (output / "results.json").write_text(json.dumps({"probes": rows, "finetuned_accuracy": accuracy}, indent=2) + "\n")
    picture_masks(run.output_dir, corpus, output / "masks.png")
    picture_map(run.output_dir, corpus, output / "embeddings.png")
    for name in ("losses.png", "collapse.png"):
        (output / name).write_bytes((Path(run.output_dir) / name).read_bytes())

    print(format_rows(rows))
    print(f"\nfine-tuned with LoRA: {accuracy:.1%} of held-out clips right")
    print(f"{output}: pretrained/ and classifier/ (model folders with cards), results.json, and pictures:")
    print("masks.png, losses.png, collapse.png, embeddings.png")
    print(f'next: pipeline("audio-classification", model="{tuned.output_dir}") after `import hf_audio_ssl`')
    print(f"took {(time.time() - started) / 60:.1f} minutes")


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def picture_masks(folder: str | Path, corpus, path: Path) -> None:
    """A clip's spectrogram, and what three masks leave of it."""
    from matplotlib.figure import Figure

    model, extractor = EatForPreTraining.from_pretrained(folder), EatFeatureExtractor.from_pretrained(folder)
    wave, rate = io.load(corpus[0]["audio"], sampling_rate=extractor.sampling_rate)
    mel = extractor(wave, sampling_rate=rate)["input_values"]
    with torch.no_grad():
        masks = model(mel).bool_masked_pos[:3].bool()
    size = model.config.patch_size
    grid = masks.unflatten(1, (-1, model.config.num_mel_patches))
    hidden = grid.repeat_interleave(size, 1).repeat_interleave(size, 2)

    figure = Figure(figsize=(12, 3), layout="constrained")
    pictures = [mel[0], *(mel[0].masked_fill(mask, float("nan")) for mask in hidden)]
    for axes, picture, name in zip(figure.subplots(1, 4), pictures, ["input", "mask 1", "mask 2", "mask 3"]):
        axes.imshow(picture.T, origin="lower", aspect="auto", cmap="magma")
        axes.set(title=name, xlabel="frame (10 ms)", ylabel="mel bin")
    figure.savefig(path, dpi=100)


def picture_map(folder: str | Path, corpus, path: Path) -> None:
    """Clip embeddings of the pre-trained encoder in two dimensions (t-SNE), coloured by class."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    embeddings = embed_corpus(
        EatModel.from_pretrained(folder), EatFeatureExtractor.from_pretrained(folder), corpus, pool="mean_std"
    )
    x = (embeddings.x - embeddings.x.mean(0)) / (embeddings.x.std(0) + 1e-6)
    points = TSNE(init="pca", perplexity=30, random_state=0).fit_transform(x)
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for index, name in enumerate(embeddings.label_names):
        chosen = np.asarray(embeddings.labels) == index
        axes.scatter(*points[chosen].T, s=12, label=name, color=f"C{index % 10}", marker="ox^s"[index // 10])
    axes.legend(fontsize=7, ncols=2)
    axes.set(xticks=[], yticks=[], title="clip embeddings (t-SNE)")
    figure.savefig(path, dpi=100)

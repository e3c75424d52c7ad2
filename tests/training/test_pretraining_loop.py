import json
import logging

import datasets
import pytest
import soundfile
import torch
from toy import FRAMES, WIDTH, ToyClips, ToyConfig, ToyExtractor, ToyForPreTraining, toy_collate, toy_run
from transformers import Trainer, TrainingArguments

from hf_audio_ssl.data.dataset import GlobalBatchSampler
from hf_audio_ssl.data.synthetic import synthesize
from hf_audio_ssl.models.eat import EatConfig, EatFeatureExtractor, EatForPreTraining
from hf_audio_ssl.training import (
    AfterOptimizerStep,
    CheckpointError,
    NonFiniteLossError,
    PretrainingArguments,
    open_clips,
    plot_history,
    pretrain,
    run_pretraining,
)
from hf_audio_ssl.training.optimizer import build_optimizer, parameter_groups

TINY_EAT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "num_clones": 2,
    "decoder_hidden_size": 32, "decoder_num_layers": 1, "ema_decay": 0.9, "ema_end_decay": 0.99,
    "ema_anneal_steps": 10,
}  # fmt: skip


def test_weight_decay_groups_leave_out_biases_norms_and_the_teacher():
    model = EatForPreTraining(EatConfig(**TINY_EAT))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = ([names[id(p)] for p in group["params"]] for group in parameter_groups(model, 0.05))
    assert [group["weight_decay"] for group in parameter_groups(model, 0.05)] == [0.05, 0.0]
    assert not any(name.startswith("teacher") for name in decayed + plain)
    assert "eat.embeddings.cls_token" in decayed and "eat.embeddings.patch_embedding.projection.weight" in decayed
    assert all(name.endswith("bias") or "norm" in name for name in plain)
    assert all(model.get_parameter(name).ndim > 1 for name in decayed)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sorted(decayed + plain) == sorted(trainable)


def test_nothing_to_train():
    model = ToyForPreTraining(ToyConfig()).requires_grad_(False)
    with pytest.raises(ValueError, match="ToyForPreTraining: no parameter requires a gradient"):
        build_optimizer(model, PretrainingArguments(), torch.device("cpu"))


def test_one_step_is_what_it_says(tmp_path):
    """The loop against the same step written out: AdamW with decay, clipped gradient, then the teacher."""
    clips = ToyClips(masks=True)
    model, result = toy_run(tmp_path, clips=clips, max_steps=1, max_grad_norm=0.5, warmup_steps=0)

    torch.manual_seed(0)
    expected = ToyForPreTraining(ToyConfig())
    batch = toy_collate([clips[key] for key in next(iter(GlobalBatchSampler(len(clips), 4)))])
    output = expected(**ToyExtractor()(batch["audio"]), masked=batch["masked"])
    output.loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
    weights, biases = ([p for p in expected.encoder.parameters() if (p.ndim > 1) == kind] for kind in (True, False))
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95)).step()
    expected.after_optimizer_step(1)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-7, rtol=1e-6, msg=name)
    (record,) = result.history
    assert record["loss"] == pytest.approx(output.loss.item()) and record["grad_norm"] == pytest.approx(norm.item())
    assert record["grad_norm"] > 0.5 and record["lr"] == 0.01


def test_log_holds_the_means_of_every_scalar_field(tmp_path):
    _, each = toy_run(tmp_path / "each", max_steps=8, logging_steps=1)
    _, some = toy_run(tmp_path / "some", max_steps=8, logging_steps=3)
    assert [record["step"] for record in some.history] == [3, 6, 8]
    lines = [json.loads(line) for line in (tmp_path / "some/log.jsonl").read_text().splitlines()]
    assert lines == some.history
    assert set(lines[0]) == {
        "step", "lr", "seconds", "clips_per_second", "skipped_steps", "loss", "frame_loss", "target_std", "grad_norm"
    }  # fmt: skip
    for name in ("loss", "target_std", "grad_norm"):
        values = [record[name] for record in each.history]
        assert [record[name] for record in some.history] == pytest.approx(
            [sum(values[:3]) / 3, sum(values[3:6]) / 3, sum(values[6:]) / 2], rel=1e-5
        )
    assert some.steps == 8 and some.skipped_steps == 0


def test_losses_of_domains_are_means_over_their_clips(tmp_path):
    clips = ToyClips(masks=True, groups=("en", "sw", "yo"))
    _, result = toy_run(tmp_path, clips=clips, max_steps=1)
    drawn = [clips[key] for key in next(iter(GlobalBatchSampler(len(clips), 4)))]
    batch = toy_collate(drawn)
    torch.manual_seed(0)
    with torch.no_grad():
        losses = ToyForPreTraining(ToyConfig())(**ToyExtractor()(batch["audio"]), masked=batch["masked"]).clip_losses
    (record,) = result.history
    for number, name in enumerate(clips.group_names):
        own = losses[batch["group"] == number]
        if len(own):
            assert record[f"group_loss/{name}"] == pytest.approx(own.mean().item(), rel=1e-4)
        else:
            assert f"group_loss/{name}" not in record
    assert len(set(batch["group"].tolist())) > 1


def test_weights_of_a_data_set_reach_the_sampler_and_cannot_change_on_resuming(tmp_path):
    seen = []

    class Watched(ToyClips):
        def __getitem__(self, key):
            seen.append(key[1])
            return super().__getitem__(key)

    toy_run(tmp_path, clips=Watched(weights=[1.0] * 3 + [0.0] * 37))
    assert set(seen) == {0, 1, 2}
    with pytest.raises(CheckpointError, match="sampling"):
        toy_run(tmp_path, max_steps=8, clips=ToyClips(weights=[1.0] * 40))


def test_clips_cut_to_the_shortest(tmp_path):
    lengths = []

    class Extractor(ToyExtractor):
        def __call__(self, audio, **kwargs):
            lengths.append({len(wave) for wave in audio})
            return super().__call__([wave[: FRAMES * WIDTH] for wave in audio], **kwargs)

    class Ragged(ToyClips):
        def __getitem__(self, key):
            clip = super().__getitem__(key)
            return clip | {"audio": torch.cat([clip["audio"]] * 3)[: FRAMES * WIDTH + 5 * (key[1] % 7)]}

    args = PretrainingArguments(str(tmp_path), max_steps=3, per_device_batch_size=4, crop_to_shortest=True)
    pretrain(ToyForPreTraining(ToyConfig()), Extractor(), Ragged(), args, collate_fn=toy_collate)
    assert len(lengths) == 3 and all(len(batch) == 1 for batch in lengths)


def test_effective_batch_is_said_before_the_first_step(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "hf_audio_ssl"):
        toy_run(tmp_path, gradient_accumulation_steps=3, max_steps=2)
    assert "effective batch: 12 clips (4 at a time x 3 accumulated x 1 processes)" in caplog.text
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["effective_batch"] == {"clips": 12, "seconds": 0.036, "input_steps": 72}
    assert run["arguments"]["max_steps"] == 2 and run["trainable_parameters"] == 16 * 8 * 2 + 16 + 8


def test_collapse_is_warned_of_once(tmp_path, caplog):
    toy_run(tmp_path / "calm", max_steps=4)
    assert "collapsing" not in caplog.text
    toy_run(tmp_path / "flat", max_steps=4, extractor={"gain": 1e-6})
    warnings = [record.message for record in caplog.records if "collapsing" in record.message]
    assert len(warnings) == 1 and "step 1: target_std is " in warnings[0] and "normal is 0.001 to inf" in warnings[0]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_bad_step_is_skipped_and_counted(tmp_path, value):
    # 16 clips, 4 a step: clip 5 comes once in every four steps
    model, result = toy_run(tmp_path, clips=ToyClips(16, poison={5: value}), max_steps=8)
    assert result.skipped_steps == 2 and result.history[-1]["skipped_steps"] == 2 and result.steps == 8
    assert model.updates == 6
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert sum("loss" not in record for record in result.history) == 2  # nothing but skipped steps since the last
    assert all(value == value for record in result.history for value in record.values())


def test_a_bad_step_changes_nothing(tmp_path):
    def weights_at_save(model, step):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {}

    seen = []
    clips = ToyClips(4, poison={0: "nan"})  # each step has the bad clip
    with pytest.raises(NonFiniteLossError):
        toy_run(tmp_path, clips=clips, probe=weights_at_save, probe_steps=1, max_nan_steps=3)
    assert len(seen) == 3
    for name, value in seen[0].items():
        assert torch.equal(seen[2][name], value), name


def test_too_many_bad_steps_end_the_run_and_name_the_last_good_checkpoint(tmp_path):
    # 16 clips, 4 a step: from the second epoch on, that is from step 5, every step is bad
    clips = ToyClips(16, poison=dict.fromkeys(range(16), "nan"), poison_from=1)
    message = "for 3 steps in a row, up to step 7. The last good checkpoint is .*checkpoint-00000004. "
    with pytest.raises(NonFiniteLossError, match=message):
        toy_run(tmp_path / "a", clips=clips, max_nan_steps=3, max_steps=20, save_steps=2)
    with pytest.raises(NonFiniteLossError, match="up to step 7. There is no checkpoint yet"):
        toy_run(tmp_path / "b", clips=clips, max_nan_steps=3, max_steps=20)


def test_probe_runs_before_during_and_after_and_disturbs_nothing(tmp_path):
    def probe(model, step):
        assert not model.training and not torch.is_grad_enabled()
        torch.rand(1000)  # uses up random numbers
        return {"accuracy": torch.tensor(step / 10)}

    plain, _ = toy_run(tmp_path / "plain", max_steps=7)
    model, result = toy_run(tmp_path / "probed", max_steps=7, probe=probe, probe_steps=3)
    found = [(record["step"], record["probe_accuracy"]) for record in result.history if "probe_accuracy" in record]
    assert found == [(step, pytest.approx(step / 10)) for step in (0, 3, 6, 7)]
    assert model.training
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_plots(tmp_path):
    _, result = toy_run(tmp_path, probe=lambda model, step: {"a": step, "b": 2 * step}, probe_steps=2)
    names = ["losses.png", "collapse.png", "learning_rate.png", "probe.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert plot_history([], tmp_path) == []


def test_tensorboard_by_name_and_unknown_trackers(tmp_path):
    toy_run(tmp_path, report_to="tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "runs/pretraining")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="report_to='clearml'.*not installed"):
        toy_run(tmp_path / "other", report_to="clearml")
    with pytest.raises(ValueError, match="pigeon. Choose between"):
        toy_run(tmp_path / "other", report_to="pigeon")


@pytest.mark.parametrize("how", [{"mixed_precision": "bf16"}, {"num_workers": 2}, {"gradient_checkpointing": True}])
def test_ways_of_running(tmp_path, how):
    def run(name, **extra):
        return run_pretraining(
            method="eat", dataset="synthetic", model=TINY_EAT, features={"max_length": 64}, data={"num_clips": 12},
            output_dir=str(tmp_path / name), max_steps=3, per_device_batch_size=2, clip_seconds=0.6, logging_steps=1,
            **extra,
        )  # fmt: skip

    losses = [[record["loss"] for record in run(name, **extra).history] for name, extra in (("a", {}), ("b", how))]
    if "mixed_precision" in how:
        assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]
    else:
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    loaded = EatForPreTraining.from_pretrained(tmp_path / "b")
    assert EatFeatureExtractor.from_pretrained(tmp_path / "b").max_length == 64
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    # going on from a model folder: other weights than random ones
    run("c", init_from=tmp_path / "b", resume="never")
    start = EatForPreTraining.from_pretrained(tmp_path / "c").eat.layers[0].state_dict()
    assert all((start[k] - v).abs().max() < 0.01 for k, v in loaded.eat.layers[0].state_dict().items())


def test_a_stream_resumes_where_it_was(tmp_path):
    class Interrupt(Exception):
        pass

    def stop(model, step):
        if step == 3:
            raise Interrupt
        return {}

    waves = tmp_path / "waves"
    waves.mkdir()
    for index in range(10):
        soundfile.write(waves / f"{index}.wav", synthesize(0, index, seconds=0.7), 16000)
    stream = datasets.Dataset.from_dict({"audio": [str(path) for path in sorted(waves.iterdir())]})
    stream = stream.cast_column("audio", datasets.Audio(decode=False)).to_iterable_dataset()

    def run(name, **extra):
        return run_pretraining(
            method="eat", dataset=stream, model=TINY_EAT, features={"max_length": 64}, output_dir=str(tmp_path / name),
            max_steps=5, per_device_batch_size=2, gradient_accumulation_steps=2, clip_seconds=0.6, logging_steps=1,
            save_steps=2, **extra,
        )  # fmt: skip

    calm = run("calm")
    with pytest.raises(Interrupt):
        run("stopped", probe=stop, probe_steps=1)
    resumed = run("stopped")
    assert [record["step"] for record in resumed.history if "loss" in record] == [1, 2, 3, 4, 5]
    assert [r["loss"] for r in resumed.history if "loss" in r] == [r["loss"] for r in calm.history]


def test_dataset_of_another_kind_and_extra_entries(tmp_path):
    """Labels and indices of a batch do not reach a model that does not name them."""
    model = EatForPreTraining(EatConfig(**TINY_EAT))

    class Clips(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, key):
            wave = torch.randn(10_400, generator=torch.Generator().manual_seed(key[1]))
            return {"audio": wave, "label": 1, "index": key[1]}

    args = PretrainingArguments(output_dir=str(tmp_path), max_steps=1, per_device_batch_size=2)
    assert pretrain(model, EatFeatureExtractor(max_length=64), Clips(), args).steps == 1


@pytest.mark.parametrize("kind", ["toy", "eat"])
def test_plain_trainer_with_the_callback(tmp_path, kind):
    torch.manual_seed(0)
    if kind == "toy":
        model, shape = ToyForPreTraining(ToyConfig()), (6, 8)
    else:
        model, shape = EatForPreTraining(EatConfig(**TINY_EAT)), (32, 128)
    data = [{"input_values": torch.randn(shape)} for _ in range(16)]
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    args = TrainingArguments(
        str(tmp_path), max_steps=5, per_device_train_batch_size=2, gradient_accumulation_steps=2, report_to="none",
        use_cpu=True, save_strategy="no", learning_rate=0.01, disable_tqdm=True,
    )  # fmt: skip
    Trainer(model=model, args=args, train_dataset=data, callbacks=[AfterOptimizerStep()]).train()
    assert any(not torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())
    if kind == "toy":
        assert model.updates == 5


def test_an_upload_that_fails_does_not_end_the_run(tmp_path, caplog, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    _, result = toy_run(tmp_path, push_to_hub=True, hub_model_id="somebody/toy", save_steps=3)
    assert result.steps == 6
    assert "could not be pushed to somebody/toy: " in caplog.text  # the toy is no method of the registry


def write_waves(folder, names, seconds):
    folder.mkdir()
    for index, name in enumerate(names):
        soundfile.write(folder / name, synthesize(0, index, seconds=seconds), 16000)
    return str(folder)


def test_without_clip_seconds_a_spectrogram_method_hears_all_of_a_long_file(tmp_path, caplog):
    waves, extractor = write_waves(tmp_path / "waves", ["a.wav", "b.wav"], 3.0), EatFeatureExtractor(max_length=64)
    args = PretrainingArguments(output_dir=str(tmp_path / "out"), max_steps=1, per_device_batch_size=2)
    with caplog.at_level(logging.INFO, "hf_audio_ssl"):
        clips = open_clips(waves, {}, extractor, args)
    assert "clip_seconds is not set: longer clips are cropped to the 0.655 s of features.max_length=64" in caplog.text
    crops = [clips[epoch, 0]["audio"] for epoch in range(5)]
    assert {extractor.num_frames(len(crop)) for crop in crops} == {64}
    assert len({tuple(crop.tolist()) for crop in crops}) == 5
    features = extractor(crops, sampling_rate=16000)["input_values"]
    assert torch.equal(
        features, extractor(crops, sampling_rate=16000, padding="longest", truncation=False).input_values
    )

    pretrain(EatForPreTraining(EatConfig(**TINY_EAT)), extractor, clips, args)
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["effective_batch"] == {"clips": 2, "seconds": 1.31, "input_steps": 128}
    with caplog.at_level(logging.WARNING, "hf_audio_ssl"):
        open_clips(waves, {}, extractor, PretrainingArguments(clip_seconds=1.0))
    assert "clip_seconds=1 gives 98 frames, of which features.max_length=64 keeps the first" in caplog.text


def test_other_data_is_another_run_but_a_folder_may_move(tmp_path):
    def run(dataset, **data):
        return run_pretraining(
            method="eat", dataset=dataset, model=TINY_EAT, features={"max_length": 64}, max_steps=1,
            output_dir=str(tmp_path / "out"), per_device_batch_size=2, clip_seconds=0.6, data=data,
        )  # fmt: skip

    here = write_waves(tmp_path / "waves", ["a.wav", "b.wav"], 0.7)
    other = write_waves(tmp_path / "other", ["a.wav", "c.wav"], 0.7)
    run(here)
    moved = (tmp_path / "waves").rename(tmp_path / "moved")
    assert run(str(moved)).steps == 1
    for dataset, data, message in (
        (moved, {"gain_db": 3.0}, "data.gain_db was 0.0, is 3.0"),
        (moved, {"speed_perturb": 0.1}, "data.speed_perturb was 0.0, is 0.1"),
        (moved, {"min_seconds": 0.5}, "data.min_samples was 400, is 8000"),
        (other, {}, "data.files was "),
    ):
        with pytest.raises(CheckpointError, match=message):
            run(str(dataset), **data)

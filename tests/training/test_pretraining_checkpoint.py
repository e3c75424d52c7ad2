import json
import resource
import shutil

import pytest
import torch
from toy import ToyClips, ToyExtractor, ToyForPreTraining, toy_run

from hf_audio_ssl.training import CheckpointError
from hf_audio_ssl.training import checkpoint as checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir() if "checkpoint" in path.name)


def interrupted_run(folder, steps=4, **arguments):
    """A run whose checkpoint of `steps` is the newest of a longer plan: as after a kill."""

    class Interrupt(Exception):
        pass

    def stop(model, step):
        if step == steps + 1:
            raise Interrupt
        return {}

    with pytest.raises(Interrupt):
        toy_run(folder, max_steps=6, save_steps=2, probe=stop, probe_steps=1, **arguments)


def test_a_checkpoint_is_a_model_folder(tmp_path):
    model, _ = toy_run(tmp_path, save_steps=4)
    assert names(tmp_path) == ["checkpoint-00000004", "checkpoint-00000006"]
    for folder in (tmp_path / "checkpoint-00000006", tmp_path):
        loaded = ToyForPreTraining.from_pretrained(folder)
        for name, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name
        assert ToyExtractor.from_pretrained(folder).sampling_rate == 16000
    assert not (tmp_path / checkpoints.STATE_FOLDER).exists()
    assert not (tmp_path / "checkpoint-00000006/optimizer_state/model.safetensors").exists()  # no second copy
    assert names(tmp_path / "checkpoint-00000006") == []


@pytest.mark.parametrize(("limit", "kept"), [(1, [6]), (2, [5, 6]), (None, [1, 2, 3, 4, 5, 6])])
def test_rotation(tmp_path, limit, kept):
    toy_run(tmp_path, save_steps=1, save_total_limit=limit)
    assert names(tmp_path) == [f"checkpoint-{step:08d}" for step in kept]


def test_unfinished_folders_are_no_checkpoints_and_go_away(tmp_path):
    interrupted_run(tmp_path)
    newest = tmp_path / "checkpoint-00000004"
    shutil.copytree(newest, tmp_path / ".writing-checkpoint-00000008")
    shutil.copytree(newest, tmp_path / ".deleting-checkpoint-00000001")
    assert checkpoints.find_checkpoint(tmp_path, "auto") == newest
    _, result = toy_run(tmp_path, save_steps=2)
    assert result.steps == 6 and names(tmp_path) == ["checkpoint-00000004", "checkpoint-00000006"]


def test_a_finished_run_started_again_does_nothing(tmp_path):
    _, first = toy_run(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    _, second = toy_run(tmp_path)
    assert second.history == first.history and (tmp_path / "model.safetensors").read_bytes() == weights


def test_resume_drops_log_records_after_the_checkpoint_and_half_a_line(tmp_path):
    interrupted_run(tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    _, result = toy_run(tmp_path, save_steps=2)
    assert [record["step"] for record in result.history if "loss" in record] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.02}, "training.learning_rate was 0.01, is 0.02"),
        ({"max_steps": 7}, "training.max_steps was 6, is 7"),
        ({"seed": 3, "weight_decay": 0.0}, "training.seed was 0, is 3; training.weight_decay was 0.1, is 0.0"),
        ({"per_device_batch_size": 2}, "clips_per_step was 4, is 2"),
        ({"config": {"hidden_size": 8}}, "model.hidden_size was 16, is 8"),
        ({"extractor": {"gain": 2.0}}, "features.gain was 1.0, is 2.0"),
        ({"clips": ToyClips(41)}, "clips was 40, is 41"),
    ],
)
def test_another_run_is_refused_and_the_differences_named(tmp_path, change, message):
    interrupted_run(tmp_path)
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="checkpoint-00000004 belongs to another run: .*") as error:
        toy_run(tmp_path, **change)
    assert message in str(error.value)
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_what_does_not_change_the_weights_may_change(tmp_path):
    calm, _ = toy_run(tmp_path / "calm")
    interrupted_run(tmp_path / "run")
    free = {"logging_steps": 2, "save_total_limit": None, "num_workers": 1, "report_to": "tensorboard"}
    model, _ = toy_run(tmp_path / "run", save_steps=3, **free)
    for name, value in calm.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_resume_never_and_by_path(tmp_path):
    calm, _ = toy_run(tmp_path / "calm")
    interrupted_run(tmp_path / "run")
    path = tmp_path / "run/checkpoint-00000004"
    with pytest.raises(CheckpointError, match="resume='never', but .*checkpoint-00000004 exists"):
        toy_run(tmp_path / "run", resume="never")
    with pytest.raises(CheckpointError, match="checkpoint-00000002', but .*checkpoint-00000004 exists"):
        toy_run(tmp_path / "run", resume=str(tmp_path / "run/checkpoint-00000002"))
    with pytest.raises(ValueError, match="resume='nowhere': expected 'auto', 'never' or the folder of a checkpoint"):
        toy_run(tmp_path / "run", resume="nowhere")
    model, _ = toy_run(tmp_path / "elsewhere", resume=str(path))
    for name, value in calm.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


# sizes of the files of a checkpoint of the toy: weights 2.6 kB, optimizer 5 kB; the log stays below 1 kB
@pytest.mark.parametrize(("room", "file"), [(1500, "model.safetensors"), (4000, "optimizer.bin")])
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, room, file):
    """A limit on the size of files stands for a full disk: the same write fails, with another error number."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(model, step):
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        return {}

    plan = {"max_steps": 6, "save_steps": 2, "logging_steps": 6, "probe_steps": 3}
    try:
        with pytest.raises(CheckpointError, match="checkpoint-00000004 could not be written .*MiB free") as error:
            toy_run(tmp_path / "run", probe=fill_the_disk, **plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert str(error.value).endswith(f"The last good checkpoint is {tmp_path / 'run/checkpoint-00000002'}.")
    good = tmp_path / "run/checkpoint-00000002"
    assert (good / file if file.startswith("model") else good / "optimizer_state" / file).stat().st_size > room
    assert names(tmp_path / "run") == ["checkpoint-00000002"]
    assert not list((tmp_path / "run").glob(".writing-*"))
    # room again: the run goes on as if nothing had happened
    model, _ = toy_run(tmp_path / "run", **plan)
    calm, _ = toy_run(tmp_path / "calm", **plan)
    for name, value in calm.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_state_is_readable_json(tmp_path):
    toy_run(tmp_path)
    state = json.loads((tmp_path / "checkpoint-00000006/optimizer_state/trainer_state.json").read_text())
    assert state["step"] == state["updates"] == 6 and state["settings"]["training"]["learning_rate"] == 0.01
    assert state["settings"]["processes"]["number"] == 1

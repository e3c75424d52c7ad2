"""Runs that are killed, resumed, and split over processes: real processes, real SIGKILL."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import ToyClips, toy_run

ROOT = Path(__file__).parents[2]
TIMES = ("seconds", "clips_per_second")


def records(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def assert_same_run(first, second):
    """Weights, teacher, optimizer state and log are equal, bit for bit."""
    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert one.keys() == two.keys() and any("teacher" in name for name in one)
    for name in one:
        assert torch.equal(one[name], two[name]), name
    newest = [sorted(folder.glob("checkpoint-*"))[-1] / "optimizer_state/optimizer.bin" for folder in (first, second)]
    one, two = (torch.load(path, weights_only=True) for path in newest)
    assert one["state"].keys() == two["state"].keys() and one["state"]
    for key in one["state"]:
        for name, value in one["state"][key].items():
            assert torch.equal(value, two["state"][key][name]), (key, name)
    assert records(first) == records(second)


def test_ten_kills_leave_no_trace(nursery, tmp_path):
    plan = {"max_steps": 150, "save_steps": 2, "logging_steps": 3, "gradient_accumulation_steps": 2}
    nursery.run(tmp_path / "calm", **plan)
    report = nursery.run(tmp_path / "killed", kills=10, kill_within=0.15, **plan)
    assert report["kills"] == 10
    assert_same_run(tmp_path / "calm", tmp_path / "killed")


@pytest.mark.parametrize("save", [1, 3])
def test_killed_in_the_middle_of_a_checkpoint(nursery, tmp_path, save):
    plan = {"max_steps": 10, "save_steps": 2, "save_total_limit": 1}
    nursery.run(tmp_path / "calm", **plan)
    report = nursery.run(tmp_path / "killed", die_at_save=save, **plan)
    assert report["died_of"] == signal.SIGKILL
    assert report["reached"] == ("" if save == 1 else "checkpoint-00000004")
    assert_same_run(tmp_path / "calm", tmp_path / "killed")
    assert not list((tmp_path / "killed").glob(".*ing-*"))


def test_kills_of_two_processes_leave_no_trace(nursery, tmp_path):
    """The losses of the groups, summed over processes, among the rest."""
    clips = {"groups": ["en", "sw", "yo"]}
    plan = {"processes": 2, "max_steps": 60, "save_steps": 2, "logging_steps": 3, "clips": clips}
    nursery.run(tmp_path / "calm", **plan)
    report = nursery.run(tmp_path / "killed", kills=3, kill_within=0.3, **plan)
    assert report["kills"] == 3
    assert {"group_loss/en", "group_loss/sw", "group_loss/yo"} <= records(tmp_path / "calm")[0].keys()
    assert_same_run(tmp_path / "calm", tmp_path / "killed")


def test_layers_that_are_skipped_do_not_stop_two_processes(nursery, tmp_path):
    """LayerDrop: DistributedDataParallel would wait for gradients that never come."""
    nursery.run(tmp_path, processes=2, config={"idle_layer": True}, max_steps=4)
    assert len(records(tmp_path)) == 4


def test_one_and_two_processes_have_the_same_losses(nursery, tmp_path):
    plan = {"clips": {"masks": True}, "max_steps": 25, "weight_decay": 0.0}
    nursery.run(tmp_path / "one", per_device_batch_size=8, **plan)
    nursery.run(tmp_path / "two", processes=2, per_device_batch_size=4, **plan)
    nursery.run(tmp_path / "four", processes=2, per_device_batch_size=2, gradient_accumulation_steps=2, **plan)
    one, two, four = ([record["loss"] for record in records(tmp_path / name)] for name in ("one", "two", "four"))
    assert len(one) == 25 and one[-1] < one[0] / 2
    assert two == pytest.approx(one, abs=1e-5)
    assert four == pytest.approx(one, abs=1e-5)
    sums = [json.loads((tmp_path / "two" / f"rank{rank}.json").read_text())["sums"] for rank in (0, 1)]
    assert sums[0] == sums[1]


def test_a_bad_clip_on_one_process_makes_both_skip(nursery, tmp_path):
    # 16 clips, 8 a step: one of the two processes meets clip 3 in every second step
    for name, value in (("nan", "nan"), ("infinite", "inf")):
        nursery.run(
            tmp_path / name, processes=2, clips={"clips": 16, "poison": {"3": value}}, max_steps=8, save_total_limit=1
        )
        reports = [json.loads((tmp_path / name / f"rank{rank}.json").read_text()) for rank in (0, 1)]
        assert reports[0] == reports[1]
        assert reports[0]["skipped"] == 4
        weights = load_file(tmp_path / name / "model.safetensors")
        assert all(value.isfinite().all() for value in weights.values())
        assert weights["updates"] == 4


def test_accumulation_equals_the_big_batch(tmp_path):
    clips = ToyClips(masks=True)
    big, whole = toy_run(tmp_path / "big", clips=clips, per_device_batch_size=12, max_steps=10)
    small, parts = toy_run(
        tmp_path / "small", clips=clips, per_device_batch_size=3, gradient_accumulation_steps=4, max_steps=10
    )
    for name, value in big.state_dict().items():
        torch.testing.assert_close(small.state_dict()[name], value, atol=1e-5, rtol=1e-5, msg=name)
    losses = [[record["loss"] for record in result.history] for result in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)


def test_the_example_with_two_processes_and_again_with_one(tmp_path):
    """As a user starts it. On a CPU `accelerate launch` starts one process, whatever it is told; torchrun two."""
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    one = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1"]
    one += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    arguments = [
        str(ROOT / "examples/run_pretraining.py"), "--method", "eat", "--dataset", "synthetic",
        "--output_dir", str(tmp_path / "run"), "--max_steps", "3", "--clip_seconds", "0.97", "--save_steps", "2",
        "--logging_steps", "1", "--cpu_threads", "1", "--set", "model.hidden_size=32",
        "model.num_hidden_layers=1", "model.num_attention_heads=2", "model.intermediate_size=32",
        "model.decoder_hidden_size=32", "model.decoder_num_layers=1", "model.num_clones=2", "features.max_length=96",
        "data.num_clips=20",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    for launcher, clips in ((two, "2"), (one, "4")):
        command = [sys.executable, *launcher, *arguments, "--per_device_batch_size", clips]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
        assert done.returncode == 0, done.stderr
    assert "3 steps, 0 skipped" in done.stdout
    assert "other masks" in done.stderr and "effective batch" not in done.stderr  # nothing was left to do
    assert [record["step"] for record in records(tmp_path / "run")] == [1, 2, 3]
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["effective_batch"] == {"clips": 4, "seconds": 3.88, "input_steps": 4 * 96} and run["processes"] == 2

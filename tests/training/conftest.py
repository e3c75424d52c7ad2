import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


class Nursery:
    """See `toy.py`."""

    def __init__(self):
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("toy.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(
        self,
        output_dir,
        *,
        processes=1,
        clips=None,
        config=None,
        kills=0,
        kill_within=0.1,
        die_at_save=None,
        **arguments,
    ):
        """Report of a run of the toy that came to its end."""
        job = {
            "output_dir": str(output_dir), "processes": processes, "clips": clips, "config": config,
            "kills": kills, "kill_within": kill_within, "kill_seed": 0, "die_at_save": die_at_save,
            "arguments": arguments,
        }  # fmt: skip
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        report = json.loads(self.process.stdout.readline())
        assert "error" not in report, report
        assert report["statuses"] == [0] * processes, report
        return report


@pytest.fixture(scope="session")
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.process.stdin.close()
    nursery.process.wait(timeout=30)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    # what is tested here is exact on a CPU only
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

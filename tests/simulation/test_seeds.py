"""A slice of script/simulate, with its last line and exit code; the same seed lives the same life twice."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = 400
START = 5_000_000
"""Seeds that nobody looks at while developing."""


def simulate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_slice_of_seeds_violates_nothing() -> None:
    done = simulate("--seeds", str(SEEDS), "--start", str(START))
    assert done.stdout.splitlines()[-1] == f"{SEEDS} seeds, 0 violations", done.stdout + done.stderr
    assert done.returncode == 0


def test_the_same_seed_lives_the_same_life() -> None:
    lives = [
        [
            line
            for line in simulate("--seeds", "1", "--start", str(seed), "--verbose").stdout.splitlines()
            if "history" in line
        ]
        for seed in (START, START, START + 1)
    ]
    assert lives[0] == lives[1] != lives[2]
    assert len(lives[0]) == 1

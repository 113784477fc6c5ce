"""Each known bug is found by the simulation, and the product, in the same scenarios and seeds, violates nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.variants import NOT_FOUND, VARIANTS
from tests.simulation.variants_run import by_scenario

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """In a process of its own: the order of sets is part of a run, so it has to be the same each time."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.variants_run", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_known_bug_is_found(name: str, results: dict[str, Any]) -> None:
    variant = VARIANTS[name]
    assert results["found"][name] is not None, f"not found in {variant.within} seeds: {variant.says}"


@pytest.mark.parametrize("scenario", sorted(by_scenario(list(VARIANTS))))
def test_without_it_nothing_is_violated(scenario: str, results: dict[str, Any]) -> None:
    assert results["clean"][scenario] == []


def test_what_is_covered_by_other_rules_says_why() -> None:
    assert not set(NOT_FOUND) & set(VARIANTS)


def test_every_rule_was_left_out() -> None:
    """The sixteen rules of the protocol; 9' takes the place of 9."""
    left_out = {variant.rule for variant in VARIANTS.values()}
    assert {str(n) for n in range(1, 17)} - {"9"} | {"9'"} <= left_out

"""Failovers and switchovers, timed: strike the primary under writers, and say where the time went, step by step."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rig.observed_service import told
from tests.stack import Controller
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import Writers, missing

STEPS = ("claim", "close", "received", "revoke", "drain", "record", "open")
CALM_SHARE, CALM_SECONDS, CALM_PATIENCE = 0.35, 0.5, 45


OBSERVED = (sys.executable, "-m", "tests.rig.observed_service")
"""The leader whose steps are told."""


@dataclass(frozen=True)
class Trial:
    """Times in seconds after the strike, or after the decision when that is what was asked for."""

    primary: str
    acknowledged: int
    lost: int
    late: int
    """Acknowledgements of the old primary after the first of the new one."""
    last_on_old: float
    first_on_new: float
    ends: dict[str, float]
    """When the controller sent the claim ("decided") and had the answer to each step."""
    agent_ms: dict[str, dict[str, float]]
    """Step of the controller → the agent's own steps in it, milliseconds."""
    load: float

    @property
    def gap(self) -> float:
        return self.first_on_new - self.last_on_old


def start_alike(hosts: Sequence[VaultHost], *init: str) -> None:
    """Initialise and start the hosts of one vault, with one clients' password: a primary that opens again sets its own."""
    for host in hosts:
        host.client_password = hosts[0].client_password
        host.init(*init).start()


def run(
    stack: Controller,
    primary: VaultHost,
    acker: VaultHost,
    writers: Writers,
    strike: Callable[[], float],
    *,
    from_decision: bool = False,
    log: str = "service-a",
) -> Trial:
    """One failover or switchover under `writers`, carried out by an OBSERVED leader.

    strike: does it and returns its monotonic moment. from_decision: count from the claim instead. The vault is left as it is
    then, perhaps not lossless yet.
    """
    load = os.getloadavg()[0]
    before = len(stack.full_log(log))
    with writers:
        writers.wait_acknowledged(time.monotonic(), 20, host=primary, count=200)
        moment = strike()
        writers.wait_acknowledged(moment, 30, host=acker, count=100)
        stack.wait_vault(30, primary=acker.hostname, intent=None)
    new, old = writers.since(moment, acker), writers.since(0, primary)
    first = min(a.at for a in new)
    lost = missing(writers, acker)
    ends, agent_ms = _steps(told(stack.full_log(log)[before:]), moment)
    if from_decision:
        moment += ends["decided"]
        ends = {step: end - ends["decided"] for step, end in ends.items()}
    return Trial(
        primary=primary.hostname,
        acknowledged=len(writers.acknowledged),
        lost=len(lost),
        late=sum(a.at > first for a in old),
        last_on_old=max(a.at for a in old if a.at <= first) - moment,
        first_on_new=first - moment,
        ends=ends,
        agent_ms=agent_ms,
        load=load,
    )


def _steps(lines: Sequence[dict[str, Any]], moment: float) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    ends: dict[str, float] = {}
    agent_ms: dict[str, dict[str, float]] = {}
    for line in lines:
        step, after = line["step"], line["at"] - moment
        if step == "claim" and line["outcome"] == "sent" and "decided" not in ends and after > 0:
            ends["decided"] = after
        if "decided" in ends and step in STEPS and line["outcome"] == "done" and step not in ends:
            ends[step] = after
            agent_ms[step] = line.get("agent_ms", {})
        if step == "open" and "open" in ends:
            break
    return ends, agent_ms


def calm(patience: float = CALM_PATIENCE) -> None:
    """Wait, at most `patience` seconds, until the machine has little else to do: others may be at work on it."""

    def busy() -> tuple[float, float]:
        fields = [int(f) for f in Path("/proc/stat").read_text().split(None, 9)[1:9]]
        return sum(fields) - fields[3] - fields[4], sum(fields)

    until = time.monotonic() + patience
    last, since = busy(), time.monotonic()

    def over() -> bool:
        nonlocal last, since
        if time.monotonic() - since < CALM_SECONDS:
            return False
        now = busy()
        share = (now[0] - last[0]) / max(1, now[1] - last[1])
        last, since = now, time.monotonic()
        return share < CALM_SHARE or time.monotonic() > until

    wait_for(over, patience + 5)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def table(trials: Sequence[Trial]) -> list[tuple[object, ...]]:
    """A row per trial, and the medians."""
    steps = [s for s in ("decided", *STEPS) if any(s in t.ends for t in trials)]
    head = ("", "primary", "load", "acknowledged", "lost", "late", *steps, "first write", "gap")
    rows: list[tuple[object, ...]] = [head]
    for number, t in enumerate(trials, 1):
        ends = [ms(t.ends[s]) if s in t.ends else "–" for s in steps]
        rows.append(
            (number, t.primary, f"{t.load:.1f}", t.acknowledged, t.lost, t.late, *ends, ms(t.first_on_new), ms(t.gap))
        )
    medians = [ms(statistics.median(t.ends[s] for t in trials if s in t.ends)) for s in steps]
    first, gap = (
        ms(statistics.median(values)) for values in zip(*((t.first_on_new, t.gap) for t in trials), strict=True)
    )
    sums = sum(t.acknowledged for t in trials), sum(t.lost for t in trials), sum(t.late for t in trials)
    return [*rows, ("**median**", "", "", *sums, *medians, f"**{first}**", f"**{gap}**")]


def agents_table(trials: Sequence[Trial]) -> list[tuple[object, ...]]:
    """What the agents did inside the controller's steps, medians."""
    found: dict[tuple[str, str], list[float]] = {}
    for t in trials:
        for step, inner in t.agent_ms.items():
            for name, took in inner.items():
                found.setdefault((step, name), []).append(took)
    rows = [(step, name, f"{statistics.median(took):.1f}", f"{max(took):.1f}") for (step, name), took in found.items()]
    return [("step", "inside it, on the agent", "median, ms", "slowest, ms"), *rows]

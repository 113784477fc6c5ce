"""`python -m script.demo`, called by script/run. Exit status: 0 stopped on request, 1 could not run, 2 wrong usage."""

import argparse
import errno
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

from . import plan as plans
from .bring_up import BringUp
from .plan import CannotRun, Plan
from .processes import STOP_SIGNALS, Signals, StopRequested, become_subreaper, stop_remains
from .run_lock import RunLock

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    argparse.ArgumentParser(
        prog="script/run",
        description="Brings up the console and a vault pair on this machine, in the foreground; Ctrl-C stops all of it.",
        epilog="Addresses, ports and the state directory: docs/reference/settings.md.",
    ).parse_args()
    os.umask(0o077)
    os.chdir(ROOT)
    try:
        plan = plans.read(ROOT, os.environ)
        plan.make_directories()
        with RunLock(plan):
            return _run(plan)
    except CannotRun as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _refuse("the disk is full: make room, then start again.")
        raise


def _run(plan: Plan) -> int:
    become_subreaper()
    signals = Signals()
    bring_up = BringUp(plan, signals, say=lambda line: _say(line, sys.stdout))
    requested = False
    try:
        bring_up.start()
        bring_up.watch()
    except StopRequested as stop:
        requested = True
        _say(f"{stop}: stopping …", sys.stdout)
    finally:
        signals.stopping = True
        for number in STOP_SIGNALS:  # a second Ctrl-C must not leave half of it running
            signal.signal(number, signal.SIG_IGN)
        bring_up.stop()
        stop_remains(plan.var)
        if requested:
            _say("Stopped. The data is kept; script/run continues with it.", sys.stdout)
    return 0


def _say(line: str, stream: TextIO) -> None:
    try:
        print(line, file=stream, flush=True)
    except OSError:  # the terminal is gone; what runs matters more than the line
        pass


def _refuse(sentence: str) -> int:
    _say(f"script/run: {sentence}", sys.stderr)
    return 1


sys.exit(main())

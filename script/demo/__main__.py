"""`python -m script.demo`, called by script/run. Exit status: 0 stopped on request, 1 could not run, 2 wrong usage."""

import signal

# Until there is something to stop, Ctrl-C just ends us, without a traceback; the imports below take half a second.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse  # noqa: E402
import errno  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TextIO  # noqa: E402

from . import plan as plans  # noqa: E402
from . import readiness  # noqa: E402
from .bring_up import BringUp  # noqa: E402
from .plan import CannotRun, Plan  # noqa: E402
from .processes import STOP_SIGNALS, Signals, StopRequested, become_subreaper, stop_remains  # noqa: E402
from .run_lock import RunLock  # noqa: E402

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
    except CannotRun as error:
        # On a full disk a part often fails with another word, or cannot even write down why.
        raise CannotRun(readiness.no_room(plan) or str(error)) from error
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

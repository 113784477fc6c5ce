"""`script/manage …`: manage.py with the settings of script/run, whether that runs or not."""

import os
import sys
from pathlib import Path

from . import plan as plans
from .bring_up import environment
from .plan import CannotRun
from .processes import MARK

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Becomes manage.py; returns only when it cannot."""
    try:
        plan = plans.read(ROOT, os.environ)
    except CannotRun as error:
        return _refuse(str(error))
    if not (plan.secrets / "secret_key").exists():
        return _refuse(f"{plan.var} holds nothing yet: start script/run once, or set VAULT_HA_VAR as it was then.")
    given = environment(plan)
    del given[MARK]  # not a part of the run: it must not be stopped with it
    python = str(ROOT / ".venv" / "bin" / "python")
    os.execve(python, [python, str(ROOT / "manage.py"), *sys.argv[1:]], given)  # noqa: S606  # no shell is wanted


def _refuse(sentence: str) -> int:
    print(f"script/manage: {sentence}", file=sys.stderr)
    return 1


sys.exit(main())

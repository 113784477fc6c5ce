"""`script/manage …`: manage.py with the settings of script/run, whether that runs or not."""

import os
import sys
from pathlib import Path

from . import plan as plans
from .bring_up import environment
from .plan import CannotRun
from .processes import MARK

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Becomes manage.py. Raises SystemExit with one sentence when it cannot."""
    try:
        plan = plans.read(ROOT, os.environ)
    except CannotRun as error:
        raise SystemExit(f"script/manage: {error}") from error
    if not (plan.secrets / "secret_key").exists():
        raise SystemExit(
            f"script/manage: {plan.var} holds nothing yet: start script/run once, or set VAULT_HA_VAR as it was then."
        )
    given = environment(plan)
    del given[MARK]  # not a part of the run: it must not be stopped with it
    python = str(ROOT / ".venv" / "bin" / "python")
    os.execve(python, [python, str(ROOT / "manage.py"), *sys.argv[1:]], given)  # noqa: S606  # no shell is wanted


main()

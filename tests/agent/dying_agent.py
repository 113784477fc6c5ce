"""`vault-agent` that is killed with SIGKILL at a given point of a swap: `python -m tests.agent.dying_agent POINT serve --home …`.

A point is a function, which call of it, and whether before or after it: "move:2:after". Everything else is the real program.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from replication.agent import swap
from replication.agent.cli import main
from replication.agent.process import Mariadbd
from replication.agent.swap import Swap
from replication.dialects.mariadb import MariaDb

PLACES: dict[str, Any] = {
    "move": swap,
    "write_json": swap,
    "kill": Mariadbd,
    "start": Mariadbd,
    "take_position": MariaDb,
    "_end": Swap,
}


def arm(point: str) -> None:
    name, number, when = point.split(":")
    place = PLACES[name]
    real: Callable[..., Any] = getattr(place, name)
    calls = 0

    @functools.wraps(real)
    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == int(number) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if calls == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, name, deadly)


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(sys.argv[2:]))

"""Events: one row and one log line per change, with the same facts."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from django.db import Error

from nodes.models import Event

from .threads import DatabaseThread

log = logging.getLogger(__name__)
LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class EventStore:
    """Adapter of core.ports.Journal."""

    def __init__(self, thread: DatabaseThread) -> None:
        self._thread = thread

    async def record(
        self, *, vault: str, node: str, epoch: int, rule: str, text: str, level: str, evidence: Mapping[str, Any]
    ) -> None:
        """Write the log line, then the row: better twice than not at all. One that cannot be written is logged and lost.

        `evidence["operation"]` and the rule of `evidence["seen"]["diagnosis"]` have columns of their own, to search by.
        """
        log.log(LEVELS[level], "epoch %s, %s %s: %s %s", epoch, rule, node, text, json.dumps(evidence, default=str))

        kept = json.loads(json.dumps(evidence, default=str))

        def write() -> None:
            Event.objects.create(
                vault_id=vault or None,
                node_name=node,
                epoch=epoch,
                rule=rule,
                text=text[:1000],
                level=level,
                evidence=kept,
                operation=str(kept.get("operation", ""))[:32],
                diagnosis=_diagnosis(kept)[:20],
            )

        try:
            try:
                await self._thread.run(write)
            except Error:
                # A metadata server that was restarted meanwhile: the thread has thrown the lost connection away.
                await self._thread.run(write)
        except Error:
            log.exception("the event above could not be written")


def _diagnosis(evidence: Mapping[str, Any]) -> str:
    """Rule id of what was wrong with the primary; "" when nobody looked."""
    seen = evidence.get("seen")
    found = seen.get("diagnosis") if isinstance(seen, dict) else None
    return str(found.get("rule", "")) if isinstance(found, dict) else ""

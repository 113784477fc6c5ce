"""Amounts, rates and times of operations in words: for a disk copy as for a handful of transactions."""

from typing import Any, Final

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from nodes.choices import OperationUnit

_BYTES: Final = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
"""Those of the setting, which is a rate in MiB per second: what is shown can be compared with what was set."""
STEPS: Final = {
    "claimed": gettext_lazy("The right to change the Master is taken: a new epoch"),
    "recorded": gettext_lazy("The new Master is recorded"),
    "revoke": gettext_lazy("%(name)s stops receiving from the old Master, for good"),
    "drain": gettext_lazy("%(name)s applies all that it has received"),
    "open": gettext_lazy("%(name)s opens for writes"),
    "close": gettext_lazy("%(name)s takes no new writes"),
    "received": gettext_lazy("%(name)s has received everything"),
    "fence": gettext_lazy("%(name)s is fenced: its database is ended"),
    "solo": gettext_lazy("%(name)s no longer waits for a fallback"),
    "lossless": gettext_lazy("%(name)s waits for its fallback with every write"),
    "acker": gettext_lazy("%(name)s acknowledges every write"),
    "follow": gettext_lazy("%(name)s follows the Master"),
    "accounts": gettext_lazy("%(name)s lets the others replicate"),
    "lock-out": gettext_lazy("%(name)s lets a node that does not answer replicate no more"),
    "detach": gettext_lazy("%(name)s stops following"),
    "promise": gettext_lazy("%(name)s promises the new epoch"),
    "ask": gettext_lazy("%(name)s says where it stands"),
    "catch-up": gettext_lazy("%(name)s catches up"),
    "export": gettext_lazy("What only %(name)s has is exported and listed"),
    "order": gettext_lazy("The service orders the copy of %(name)s"),
    "begin": gettext_lazy("%(name)s waits for the copy"),
    "transfer": gettext_lazy("%(name)s receives the copy"),
    "prepare": gettext_lazy("%(name)s makes the copy ready"),
    "swap": gettext_lazy("%(name)s puts the copy in the place of its data"),
    "start": gettext_lazy("The database of %(name)s starts"),
    "compare": gettext_lazy("%(name)s is compared with the Master"),
    "remove": gettext_lazy("%(name)s removes its old data"),
    "choose": gettext_lazy("Who makes the backup is chosen"),
    "backup": gettext_lazy("%(name)s writes the backup"),
    "read the file through": gettext_lazy("The file is read through, and its checksum compared"),
}


def step_label(name: str) -> str:
    """What a step does, as a sentence; a step that is not known keeps its name."""
    word, _space, node = name.partition(" ")
    label = STEPS.get(name) or STEPS.get(word)
    return name if label is None else str(label) % {"name": node}


def amount(count: float, unit: str) -> str:
    """ "3.2 GiB", "1,204 transactions", "17" """
    if unit == OperationUnit.BYTES:
        for size, name in _BYTES:
            if count >= 0.9995 * size:
                value = count / size
                shown = round(value) if value >= 99.95 else round(value, 1)
                return f"{number_format(shown)} {name}"
        return _("%(count)d bytes") % {"count": count}
    number = number_format(round(count), force_grouping=True)
    if unit == OperationUnit.TRANSACTIONS:
        return ngettext("%(number)s transaction", "%(number)s transactions", round(count)) % {"number": number}
    return number


def of_amount(done: float, total: float, unit: str) -> str:
    """ "1.2 GiB of 3.4 GiB", "12 of 40 transactions" """
    part = amount(done, unit) if unit == OperationUnit.BYTES else number_format(round(done), force_grouping=True)
    return _("%(done)s of %(total)s") % {"done": part, "total": amount(total, unit)}


def rate(speed: float | None, unit: str) -> str:
    """ "12.5 MiB/s"; "" when it is not known. Slow ones keep a decimal: "0.4 transactions/s"."""
    if speed is None:
        return ""
    if unit == OperationUnit.BYTES:
        return _("%(amount)s/s") % {"amount": amount(speed, unit)}
    number = number_format(round(speed, 1) if speed < 10 else round(speed), force_grouping=True)
    if unit == OperationUnit.TRANSACTIONS:
        return _("%(number)s transactions/s") % {"number": number}
    return _("%(amount)s/s") % {"amount": number}


def time_left(seconds: float | None) -> str:
    """ "about 20 s left"; in coarse steps, for it is no better known than that."""
    if seconds is None:
        return _("time left not known")
    if seconds < 3:
        return _("a moment left")
    if seconds < 10:
        return _("about %(count)d s left") % {"count": round(seconds)}
    if seconds < 90:
        return _("about %(count)d s left") % {"count": 5 * round(seconds / 5)}
    if seconds < 90 * 60:
        return _("about %(count)d min left") % {"count": round(seconds / 60)}
    if seconds < 48 * 3600:
        return _("about %(count)d h left") % {"count": round(seconds / 3600)}
    return _("about %(count)d days left") % {"count": round(seconds / 86400)}


def duration(seconds: float | None) -> str:
    """ "0.14 s", "12 s", "3 min 5 s"; "–" when it is not known."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return _("%(count)s s") % {"count": number_format(round(seconds, 2 if seconds < 1 else 1))}
    if seconds < 120:
        return _("%(count)s s") % {"count": round(seconds)}
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}
    return _("%(hours)d h %(minutes)d min") % {"hours": minutes // 60, "minutes": minutes % 60}


def milliseconds(ms: float | None) -> str:
    """ "138 ms", "2.4 s": on a timeline."""
    if ms is None:
        return "–"
    return _("%(count)d ms") % {"count": round(ms)} if ms < 1000 else duration(ms / 1000)


def samples_of(result: Any) -> list[tuple[float, int]]:
    """The samples that a running operation keeps in its result; what is strange in them is left out."""
    kept = result.get("samples") if isinstance(result, dict) else None
    pairs = (pair for pair in kept or () if isinstance(pair, list | tuple) and len(pair) == 2)
    return [(at, done) for at, done in pairs if isinstance(at, int | float) and isinstance(done, int)]

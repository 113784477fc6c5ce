"""The log of a worker as rows.

Proves: our lines and everybody's warnings arrive with all that they say, nothing that is secret; a full queue loses its oldest
lines and says how many; nobody who logs waits or fails, whatever the database does; what was logged last arrives too.
"""

import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from nodes.models import LogLine
from replication.stores import servicelog
from replication.stores.servicelog import ServiceLog, hide
from tests.rig.metadata import MetadataServer
from tests.stores.conftest import holder
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
OURS, THEIRS = logging.getLogger("replication.jobs.service"), logging.getLogger("aiohttp.client")
GENEROUS = 15.0
HIDDEN = (
    ("CREATE USER a IDENTIFIED BY 'geheim'", "CREATE USER a IDENTIFIED BY ***"),
    (
        "CHANGE MASTER TO MASTER_PASSWORD='a b', MASTER_PORT=1",
        "CHANGE MASTER TO MASTER_PASSWORD=***, MASTER_PORT=1",
    ),
    ("{'user': 'u', 'password': 'p;w'}", "{'user': 'u', 'password': ***}"),
    ("mysql://user:pa:ss@db/x", "mysql://user:***@db/x"),
    ("GET /?token=abc&x=1", "GET /?token=***&x=1"),
    (
        "Access denied for user 'a'@'b' (using password: YES)",
        "Access denied for user 'a'@'b' (using password: YES)",
    ),
    ("https://10.0.0.1:5389/hello", "https://10.0.0.1:5389/hello"),
)
"""What may be logged, and what becomes of it."""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceLog]:
    monkeypatch.setattr(servicelog, "PACE", 0.05)
    made = ServiceLog("TestedService", holder("one"))
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    yield made
    made.stop()
    root.setLevel(before)


def texts() -> list[str]:
    return list(LogLine.objects.order_by("pk").values_list("text", flat=True))


def test_our_lines_and_everybodys_warnings_arrive(log: ServiceLog) -> None:
    log.start()
    OURS.debug("too small")
    OURS.info("leading %s, term %s", "it", 3)
    THEIRS.info("of no interest")
    THEIRS.warning("of interest")
    wait_for(lambda: len(texts()) == 2, GENEROUS)
    assert texts() == ["leading it, term 3", "of interest"]
    first = LogLine.objects.order_by("pk")[0]
    assert (first.service, first.host, first.process) == ("TestedService", "one.example", "one (pid 1)")
    assert first.level == logging.INFO
    assert timezone.now() - first.at < timedelta(seconds=GENEROUS)


def test_a_traceback_is_part_of_its_line_and_holds_no_secret(log: ServiceLog) -> None:
    log.start()
    try:
        raise RuntimeError(f"connect failed: key {settings.SECRET_KEY}, redis://:hidden-word@host/0 password='x y z'")
    except RuntimeError:
        OURS.exception("a step failed")
    wait_for(texts, GENEROUS)
    (text,) = texts()
    assert text.startswith("a step failed\nTraceback (most recent call last):\n")
    assert "RuntimeError: connect failed: key ***, redis://:***@host/0 password=***" in text
    assert not [word for word in (settings.SECRET_KEY, "hidden-word", "x y z") if word in text]


def test_what_reads_like_a_secret_is_left_out_and_nothing_else() -> None:
    for text, shown in HIDDEN:
        assert hide(text) == shown


def test_a_full_queue_loses_its_oldest_lines_and_says_how_many(
    log: ServiceLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger().addHandler(log)  # not started yet: nobody takes lines out
    for n in range(servicelog.CAPACITY + 7):
        OURS.info("line %s", n)
    monkeypatch.setattr(servicelog, "BREATH", 0.001)
    log.start()
    log.stop()
    found = texts()
    assert found[0] == "7 lines before this one were dropped: the database did not take them"
    assert found[1] == "line 7"
    assert found[-1] == f"line {servicelog.CAPACITY + 6}"
    assert len(found) == servicelog.CAPACITY + 1


def test_what_was_logged_last_arrives_and_nothing_after_the_end(log: ServiceLog) -> None:
    log.start()
    OURS.info("the last")
    log.stop()
    OURS.info("after the end")
    assert texts() == ["the last"]
    log.stop()  # a second time does no harm


def test_a_line_that_cannot_be_written_down_hurts_nobody(log: ServiceLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.start()
    OURS.info("one %s too few: %s", 1)
    OURS.info("nul \x00 and %s", "x" * 9000)
    OURS.info("half of a character: \udcff")
    OURS.info("fine: ✓ 🔐")
    wait_for(lambda: len(texts()) == 3, GENEROUS)
    long, half, fine = texts()
    assert half == "half of a character: ?"
    assert fine == "fine: ✓ 🔐"
    assert "\x00" not in long
    assert len(long) <= servicelog.LONGEST
    assert long.endswith(f"({len('nul ? and ') + 9000} characters)")


def test_a_line_that_the_database_never_takes_holds_no_other_up(log: ServiceLog) -> None:
    logging.getLogger().addHandler(log)
    OURS.info("one")
    OURS.log(10**30, "of a level that no column holds")
    OURS.info("two")
    log.start()
    wait_for(lambda: len(texts()) == 2, GENEROUS)
    assert texts() == ["one", "two"]
    OURS.info("three")
    wait_for(lambda: len(texts()) == 4, GENEROUS)
    assert texts()[2:] == ["1 lines before this one were dropped: the database did not take them", "three"]


def test_who_logs_waits_for_no_silent_server_and_the_lines_come_later(
    log: ServiceLog, metadata: str, request: pytest.FixtureRequest, silent: Callable[[], None]
) -> None:
    log.start()
    OURS.info("before")
    wait_for(texts, GENEROUS)
    silent()
    began = time.monotonic()
    for n in range(50):
        OURS.info("line %s", n)
    assert time.monotonic() - began < 0.5
    wait_for(lambda: "line 49" in texts(), GENEROUS)
    assert [text for text in (f"line {n}" for n in range(50)) if text not in texts()] == []


@pytest.fixture
def silent(metadata: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Nobody can write for a second and a half: the server is frozen, or on SQLite another writer holds the lock."""
    ends: list[threading.Timer] = []

    def later(undo: Callable[[], object]) -> None:
        ends.append(threading.Timer(1.5, undo))
        ends[-1].start()

    def freeze() -> None:
        if metadata == "mariadb":
            server: MetadataServer = request.getfixturevalue("mariadb")
            server.signal(signal.SIGSTOP)
            later(lambda: server.signal(signal.SIGCONT))
        else:
            name = settings.DATABASES["default"]["NAME"]
            other = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
            other.execute("BEGIN IMMEDIATE")
            later(lambda: (other.rollback(), other.close()))

    yield freeze
    for end in ends:
        end.join()

"""Our own hosts register themselves: who is heard, as what, and what an operator has entered stays as it is."""

import threading

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from nodes.choices import ApplicationRole
from nodes.models import ApplicationNode
from replication.core.version import VERSION
from replication.stores import applications
from replication.stores.applications import OwnAddresses, Program, WebHeartbeat, note, note_application
from replication.stores.threads import DatabaseThread
from tests.waiting import wait_for

SEEN = {program.value for program in Program}


def the_row() -> ApplicationNode:
    (row,) = ApplicationNode.objects.filter(hostname__iexact=settings.HOST_NAME)
    return row


@pytest.mark.django_db
class TestNote:
    @pytest.mark.parametrize("program", Program)
    def test_a_host_enters_itself_and_says_what_runs(self, program: Program) -> None:
        assert note(program, ["192.0.2.7"])
        row = the_row()
        assert (row.version, row.addresses, row.active, row.ip_address) == (VERSION, ["192.0.2.7"], True, None)
        assert row.last_seen is not None
        assert {name for name in SEEN if getattr(row, name)} == {program.value}

    def test_addresses_that_are_not_known_yet_do_not_wipe_out_those_that_were(self) -> None:
        note(Program.WEB, ["192.0.2.7"])
        note(Program.WEB, [])
        assert the_row().addresses == ["192.0.2.7"]

    def test_a_host_that_nobody_entered_is_what_it_does(self) -> None:
        note(Program.WEB, [])
        assert the_row().system_role == ApplicationRole.WEB
        note(Program.SERVICE, [])
        note(Program.WEB, [])
        assert the_row().system_role == ApplicationRole.CONTROLLER

    def test_what_an_operator_entered_stays(self) -> None:
        typed = settings.HOST_NAME.upper()
        ApplicationNode.objects.create(hostname=typed, ip_address="192.0.2.9", system_role="web", active=False)
        assert [note(program, ["192.0.2.7"]) for program in Program] == [False, False, False]
        row = the_row()
        assert (row.hostname, row.ip_address, row.system_role, row.active) == (typed, "192.0.2.9", "web", False)
        assert all(getattr(row, name) for name in SEEN)


@pytest.mark.django_db(transaction=True)
class TestServiceWorker:
    async def test_it_learns_with_its_heartbeat_whether_the_host_is_active(self, thread: DatabaseThread) -> None:
        addresses = OwnAddresses("localhost")
        assert await note_application(thread, addresses) is True
        await thread.run(lambda: ApplicationNode.objects.update(active=False))
        assert await note_application(thread, addresses) is False

    async def test_without_the_database_it_learns_nothing(
        self, thread: DatabaseThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(applications, "note", _away)
        assert await note_application(thread, OwnAddresses("localhost")) is None


def _away(*_: object) -> bool:
    raise OperationalError("the server is away")


@pytest.mark.django_db(transaction=True)
class TestWebProcess:
    def test_it_beats_on_its_own_thread_until_it_is_told_to_end(self) -> None:
        beating = WebHeartbeat(every=0.05)
        beating.start()
        wait_for(lambda: ApplicationNode.objects.filter(web_seen__isnull=False).exists(), 10, "it was heard")
        first = the_row().web_seen
        wait_for(lambda: the_row().web_seen != first, 10, "it was heard again")
        beating.ended.set()
        beating.join(10)
        assert not beating.is_alive()
        assert beating.daemon  # the end of the server does not wait for it

    def test_an_outage_is_logged_once_and_ends_nothing(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        beating, tried = WebHeartbeat(every=0.01), threading.Semaphore(0)

        def away(*_: object) -> bool:
            tried.release()
            return _away()

        with monkeypatch.context() as patched:
            patched.setattr(applications, "note", away)
            beating.start()
            for _ in range(3):
                assert tried.acquire(timeout=10)
        wait_for(lambda: ApplicationNode.objects.filter(web_seen__isnull=False).exists(), 10, "it goes on")
        beating.ended.set()
        beating.join(10)
        assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
        assert "the server is away" in caplog.records[0].message
        connection.close()

"""The catalogues: in step with the source, complete, compiled; and sentences that were said in English are read in German.

Everything happens in a copy of the tree, by the very program that people run (script/translations).
"""

import gettext
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils.translation import override

from nodes.sentences import is_known, said
from replication.core import candidates, diagnosis, plan, switchover
from tests.translations import DOMAINS, LOCALE, ROOT

SOURCES = ("manage.py", "sectona_ha", "nodes", "replication", "static", "templates", "tests/translations.py", "locale")
LANGUAGES = sorted(path.name for path in LOCALE.iterdir() if path.is_dir())
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%d|\{\w+\}")
CATALOGUES = [(language, domain) for language in LANGUAGES for domain in DOMAINS]


class Words(gettext.GNUTranslations):
    _catalog: dict[Any, str]

    @property
    def pairs(self) -> dict[Any, str]:
        """(text or (text, number of the plural form)) → translation, without the head."""
        return {key: text for key, text in self._catalog.items() if key}


def compiled(file: Path) -> dict[Any, str]:
    with file.open("rb") as opened:
        return Words(opened).pairs


def po(language: str, domain: str, root: Path = ROOT) -> Path:
    return root / "locale" / language / "LC_MESSAGES" / f"{domain}.po"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in which script/translations has just been run."""
    place = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source, target = ROOT / name, place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    done = subprocess.run([sys.executable, "-m", "tests.translations"], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def ids(text: str) -> set[str]:
    return {line for line in text.splitlines() if line.startswith("msgid ")} - {'msgid ""'}


@pytest.mark.parametrize(("language", "domain"), CATALOGUES)
def test_what_the_source_says_is_what_is_translated(copy: Path, language: str, domain: str) -> None:
    """Else run script/translations and fill in what is empty."""
    there, found = (ids(po(language, domain, root).read_text()) for root in (ROOT, copy))
    assert (sorted(found - there), sorted(there - found)) == ([], [])


@pytest.mark.parametrize(("language", "domain"), CATALOGUES)
@pytest.mark.parametrize("of", ["--untranslated", "--only-fuzzy", "--only-obsolete"])
def test_nothing_is_empty_or_guessed_or_left_over(language: str, domain: str, of: str) -> None:
    shown = subprocess.run(["msgattrib", of, str(po(language, domain))], capture_output=True, text=True, check=True)
    assert ids(shown.stdout) == set()


@pytest.mark.parametrize(("language", "domain"), CATALOGUES)
def test_the_compiled_file_is_that_of_its_source(tmp_path: Path, language: str, domain: str) -> None:
    """Else run script/translations: nobody needs gettext to run the console, so it is in version control."""
    subprocess.run(["msgfmt", "--check", "-o", str(tmp_path / "now.mo"), str(po(language, domain))], check=True)
    assert compiled(po(language, domain).with_suffix(".mo")) == compiled(tmp_path / "now.mo")


def uneven(pairs: dict[Any, str]) -> Iterator[str]:
    for key, text in pairs.items():
        source, form = key if isinstance(key, tuple) else (key, None)
        wanted, found = (set(PLACEHOLDER.findall(each)) for each in (source.partition("\x04")[2] or source, text))
        # The forms for one and many may say "once" or a number in place of the gap "n".
        if wanted != found and not (form is not None and found ^ wanted <= {"%(n)s"}):
            yield f"{source} → {text}"


@pytest.mark.parametrize(("language", "domain"), CATALOGUES)
def test_every_gap_is_kept(language: str, domain: str) -> None:
    assert list(uneven(compiled(po(language, domain).with_suffix(".mo")))) == []


def test_a_lost_gap_is_found() -> None:
    assert list(uneven({"%(name)s is gone": "weg"})) == ["%(name)s is gone → weg"]


def test_ages_are_written_alike_by_the_server_and_in_the_browser() -> None:
    server, browser = (compiled(po("de", domain).with_suffix(".mo")) for domain in ("django", "djangojs"))
    script = (ROOT / "static/nodes/console.js").read_text()
    ages = re.findall(r'_\("((?:%d [a-z]+ ago|just now))"\)', script)
    assert len(ages) == 5
    assert {age: browser[age] for age in ages} == {age: server[age] for age in ages}


def test_the_choice_of_languages_is_what_there_are_catalogues_for() -> None:
    assert sorted(dict(settings.LANGUAGES)) == sorted(["en", *LANGUAGES])


@pytest.mark.parametrize(
    ("english", "german"),
    [
        pytest.param("node deleted", "Knoten gelöscht", id="a sentence without gaps"),
        pytest.param(
            "the vault is lossless: vault-2.example acknowledges every write",
            "der Vault ist verlustfrei: vault-2.example bestätigt jeden Schreibzugriff",
            id="a gap with a name",
        ),
        pytest.param(
            "gamma is not rebuilt: no node to copy from is in order: alpha: it is too far behind the Master",
            "gamma wird nicht neu aufgebaut: kein Knoten, von dem zu kopieren wäre, ist in Ordnung: alpha: er liegt zu weit hinter"
            " dem Master",
            id="a sentence in the gap of a sentence in the gap of a sentence",
        ),
        pytest.param(
            "automatic failover is paused until somebody resumes it, by anna: new switch",
            "der automatische Failover ist pausiert bis ihn jemand fortsetzt, durch anna: new switch",
            id="a person's own words stay",
        ),
        pytest.param(
            "node made inactive: the fan is loud",
            "Knoten deaktiviert: the fan is loud",
            id="a reason behind a sentence",
        ),
        pytest.param(
            "Re-synchronize Master was cancelled", "Master neu synchronisieren wurde abgebrochen", id="a label in a gap"
        ),
        pytest.param(
            "SystemHousekeepingService: trigger interval set to 60 s, Events kept for 90 days",
            "SystemHousekeepingService: Auslöseintervall auf 60 s gesetzt, Ereignisse werden 90 Tage aufbewahrt",
            id="a list of changes",
        ),
        pytest.param(
            "no fallback is proven to hold every write yet: beta: it does not answer",
            "noch von keinem Fallback ist bewiesen, dass er alles hat: beta: er antwortet nicht",
            id="each in its place",
        ),
        pytest.param(
            "the primary refuses its position: Got fatal error 1236 from master",
            "der Primary weist seine Position ab: Got fatal error 1236 from master",
            id="a server's error stays as it is",
        ),
        pytest.param(
            "switchover did not succeed: R10 · it is the Master already",
            "Switchover ist nicht gelungen: R10 · er ist bereits der Master",
            id="with its rule",
        ),
        pytest.param(
            "the primary is lost: promote the acker (D10 the primary's own agent says that its database is dead)",
            "der Primary ist verloren: den Bestätiger befördern (D10 der eigene Agent des Primarys sagt, dass dessen Datenbank"
            " tot ist)",
            id="with what was wrong",
        ),
        pytest.param(
            "c reaches a and b on both ports.", "c erreicht a und b auf beiden Ports.", id="names that are counted up"
        ),
        pytest.param(
            "The clock of c is 2.1 s ahead of the one of this console: its log would tell things in a wrong order. Let NTP"
            " keep the clocks of all hosts.",
            "Die Uhr von c geht gegenüber der dieser Konsole 2.1 s vor: Sein Log erzählte die Dinge in falscher Reihenfolge."
            " NTP die Uhren aller Hosts stellen lassen.",
            id="two gaps beside each other",
        ),
        pytest.param(
            "vault-b was rebuilt from vault-a (3,072 MiB; transfer 61.4 s, prepare 5.0 s). It follows; 12 transactions were caught"
            " up in 3.2 s. It is equal to the Master. Its old data is kept until a comparison finds it equal.",
            "vault-b wurde von vault-a neu aufgebaut (3,072 MiB; Übertragung 61.4 s, Vorbereitung 5.0 s). Er folgt; 12"
            " Transaktionen wurden in 3.2 s aufgeholt. Er ist gleich dem Master. Seine alten Daten bleiben aufbewahrt bis: ein"
            " Vergleich findet ihn gleich.",
            id="a story of several sentences, with figures",
        ),
        pytest.param(
            "2 transactions of vault-b are not in the vault (vault.accounts): rotate 2 credentials. They are exported, and listed"
            " under Lost transactions. vault-b was rebuilt. But vault-b does not follow: the vault has no Master now. The old"
            " data is kept.",
            "2 Transaktionen von vault-b sind nicht im Vault (vault.accounts): 2 Zugangsdaten wechseln. Sie sind exportiert und"
            " unter Verlorene Transaktionen aufgeführt. vault-b wurde neu aufgebaut. Aber: vault-b folgt nicht: der Vault hat"
            " jetzt keinen Master. Die alten Daten sind aufbewahrt.",
            id="one of them has two full stops",
        ),
        pytest.param(
            "beta differs from the Master: vault.accounts: 9 rows differ (other content: id=5; missing: id=7, id=8 and 4 more);"
            " vault.b: the view is missing on beta. 31 tables with 1000 rows were compared in 12.3 s. Not compared: vault.c: it was"
            " changed while it was compared.",
            "beta weicht vom Master ab: vault.accounts: 9 Zeilen weichen ab (anderer Inhalt: id=5; fehlt: id=7, id=8 und 4"
            " weitere); vault.b: View fehlt auf beta. 31 Tabellen mit 1000 Zeilen in 12.3 s verglichen. Nicht verglichen: vault.c:"
            " wurde während des Vergleichs geändert.",
            id="a list in parentheses in a list",
        ),
        pytest.param(
            "The backup is of no use: the file is gone; make another one.",
            "Das Backup ist unbrauchbar: die Datei ist weg; ein neues erstellen.",
            id="with a capital and a full stop that its template lacks",
        ),
        pytest.param(
            "Failed: transfer: the source vault-a says: the disk is full; nothing was changed.",
            "Fehlgeschlagen: Übertragung: die Quelle vault-a sagt: der Datenträger ist voll; nichts wurde geändert.",
            id="what failed, where, and who says so",
        ),
        pytest.param("Got fatal error 1236 from master", "Got fatal error 1236 from master", id="nobody of us said so"),
        pytest.param(
            "<b>%(name)s</b> is held back: 100 %s (",
            "<b>%(name)s</b> wird zurückgehalten: 100 %s (",
            id="signs that mean something elsewhere",
        ),
    ],
)
def test_what_was_said_in_english_is_read_in_german(english: str, german: str) -> None:
    with override("de"):
        assert said(english).replace("\N{NO-BREAK SPACE}", " ") == german
    with override("en"):
        assert said(english) == english


def test_what_is_not_known_is_told_apart() -> None:
    """So that it is read aloud as the English that it is."""
    with override("de"):
        assert is_known("node deleted")
        assert is_known("")
        assert not is_known("Got fatal error 1236 from master")
    with override("en"):
        assert is_known("Got fatal error 1236 from master")


def test_every_rule_says_its_sentence_in_german() -> None:
    rules = [*diagnosis.RULES, *plan.RULES, *switchover.RULES]
    with override("de"):
        assert [rule.id for rule in rules if said(rule.says) == rule.says] == []


def test_a_refusal_of_a_candidate_is_read_in_german() -> None:
    """By the core itself, whatever gaps it fills in."""
    with override("de"):
        text = said(
            candidates.Refusal("C20", "the vault is solo: no fallback is known to hold every acknowledged write").says
        )
    assert text.startswith("der Vault ist solo")


def test_a_text_that_is_no_sentence_is_not_searched_for_any() -> None:
    long = "x is held back: " * 400
    with override("de"):
        assert said(long) == long


def test_what_core_says_of_a_solo_vault_is_read_in_german() -> None:
    """Its sentence is put together of a beginning, names, statuses and details."""
    text = "no fallback is proven to hold every write yet: beta is unreachable: silent, gamma is catching-up: 12 s"
    lost = "the primary is silent, its port does not answer, and no replica hears it; nobody is promoted: the database of beta is not running"
    with override("de"):
        assert (
            said(text)
            == "noch von keinem Fallback ist bewiesen, dass er alles hat: beta ist nicht erreichbar: schweigt, gamma holt auf: 12 s"
        )
        assert (
            said(lost)
            == "der Primary schweigt, sein Port antwortet nicht, und kein Replikat hört ihn; niemand wird befördert: die Datenbank von beta läuft nicht"
        )

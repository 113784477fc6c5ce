"""The help pages: every rule and every word of the screens leads to its section, links lead somewhere, nothing else is read."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.template import Context, Template
from django.test import Client
from django.urls import reverse
from django.utils import translation

from nodes import help as pages
from nodes.admin.watch import Light
from nodes.choices import STATUS_LABELS
from nodes.templatetags.help import SERVICE_WORDS, VAULT_WORDS
from replication.core.roles import NodeStatus
from tests.core.test_runbook import sections as rule_sections

ROOT = Path(__file__).parents[2]
ADVICE = ("You see", "It means", "The system", "Act")


@pytest.fixture
def reader(user: Callable[..., User], enter: Callable[..., Client]) -> Client:
    """Staff without any permission: who may log in may read."""
    return enter(user(view=False))


def tag(text: str, **values: object) -> str:
    return Template("{% load help %}" + text).render(Context(values))


def ids(html: str) -> list[str]:
    return re.findall(r' id="([^"]+)"', html)


class TestPages:
    def test_only_staff_reads_them(self, db: None, enter: Callable[..., Client]) -> None:
        outsider = enter(User.objects.create_user("outsider", password=None))
        for client in (Client(), outsider):
            for url in ("/admin/help/", "/admin/help/diagnosis/"):
                assert client.get(url)["Location"] == f"/admin/login/?next={url}"

    @pytest.mark.parametrize("name", sorted(set(pages.files()) - {pages.INDEX}))
    def test_every_page_is_shown_and_all_its_links_lead_somewhere(self, reader: Client, name: str) -> None:
        response = reader.get(reverse("help-page", args=[name]))
        assert response.status_code == 200
        text = response.content.decode()
        article = text[text.index("<article") : text.index("</article>")]
        assert "style=" not in article
        assert "<script" not in article
        assert "javascript:" not in article
        for target in map(unescape, re.findall(r'href="([^"]+)"', article)):
            if target.startswith("http"):
                continue
            url, _, fragment = target.partition("#")
            there = reader.get(url).content.decode() if url else text
            assert not fragment or fragment in ids(there), f"{target} has no such section"

    def test_no_section_of_a_page_has_the_id_of_another(self) -> None:
        for page in pages.pages():
            found = ids(page.html)
            assert len(found) == len(set(found)), page.name

    def test_links_to_what_is_not_served_are_plain_text(self) -> None:
        page = pages.page("design-rejoin")
        assert page is not None
        assert "](../evidence/" in (ROOT / "docs/design/rejoin.md").read_text()
        assert "evidence/" not in page.html

    def test_a_picture_leaves_nothing_behind(self) -> None:
        """The reader has the screen itself."""
        page = pages.page("reference-vault-screen")
        assert page is not None
        assert "](../screenshots/safety.png)" in (ROOT / "docs/reference/vault-screen.md").read_text()
        assert "screenshots" not in page.html
        assert "<p></p>" not in page.html
        assert "A solo vault: nobody would be promoted" not in page.html

    def test_html_in_a_page_comes_out_as_text(self, tmp_path: Path) -> None:
        file = tmp_path / "evil.md"
        file.write_text(
            "# A <b>page</b>\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![y](data:text/html,z)\n\n"
            "| a |\n| --: |\n| <img src=x> |\n"
        )
        html = pages._render("evil", file).html
        assert re.findall(r"<(?!/)(\w+)", html) == [
            "h1",
            "p",
            "p",
            "div",
            "table",
            "thead",
            "tr",
            "th",
            "tbody",
            "tr",
            "td",
        ]
        assert "style=" not in html
        assert 'class="right"' in html
        assert "href" not in html

    @pytest.mark.parametrize(
        "path",
        [
            "nope",
            "README",
            "settings",
            "..%2fREADME",
            "..%2f..%2fmanage.py",
            "runbook%2fdiagnosis",
            "diagnosis.md",
            "%2fetc%2fpasswd",
            "diagnosis%00",
            "../diagnosis",
            "evidence-switchover",
        ],
    )
    def test_a_name_that_is_no_page_is_404(self, reader: Client, path: str) -> None:
        reader.raise_request_exception = False
        response = reader.get(f"/admin/help/{path}/")
        assert response.status_code == 404
        assert b"SECRET" not in response.content

    def test_the_image_carries_what_is_served_and_nothing_else(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text().split()
        assert "docs/*" in ignored
        assert {line for line in ignored if line.startswith("!")} == {f"!docs/{folder}" for folder in pages.FOLDERS}
        assert "COPY docs docs\n" in (ROOT / "Dockerfile").read_text()

    def test_files_are_read_once_per_process(self, reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        reader.get("/admin/help/?q=primary")
        monkeypatch.setattr(Path, "read_text", None)  # calling it would fail
        assert reader.get("/admin/help/?q=acker").status_code == 200
        assert reader.get("/admin/help/diagnosis/").status_code == 200


class TestIndex:
    def test_it_names_every_page(self, reader: Client) -> None:
        text = reader.get("/admin/help/").content.decode()
        assert all(f'href="{pages.page_url(name)}"' in text for name in pages.files() if name != pages.INDEX)

    def test_a_rule_id_is_found_first(self, reader: Client) -> None:
        results = reader.get("/admin/help/", {"q": "d70"}).context["results"]
        assert results[0].url == pages.help_url("D70")

    def test_words_are_searched_in_headings_and_text(self, reader: Client) -> None:
        results = reader.get("/admin/help/", {"q": "connection  TABLE full"}).context["results"]
        assert results[0].url == pages.help_url("D29")
        response = reader.get("/admin/help/", {"q": "dmesg"})
        assert pages.help_url("C55") in [found.url for found in response.context["results"]]
        assert "<mark>dmesg</mark>" in response.content.decode()

    def test_nothing_found_says_what_to_try(self, reader: Client) -> None:
        response = reader.get("/admin/help/", {"q": "zebra <b>stripes</b>"})
        assert response.context["results"] == []
        text = response.content.decode()
        assert "<b>" not in text
        assert "Nothing was found" in text

    @pytest.mark.parametrize("query", ["", "   ", "x" * 5000, "(", "\\", "%", "\x00", "a " * 50])
    def test_no_query_is_an_error(self, reader: Client, query: str) -> None:
        assert reader.get("/admin/help/", {"q": query}).status_code == 200

    def test_without_the_docs_the_page_says_so(self, reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pages, "files", dict)
        monkeypatch.setattr(pages, "page", lambda name: None)
        assert "not installed" in reader.get("/admin/help/").content.decode()


class TestLinks:
    @pytest.mark.parametrize("rule", sorted(rule_sections()))
    def test_every_rule_leads_to_its_section(self, reader: Client, rule: str) -> None:
        url, _, fragment = pages.help_url(rule).partition("#")
        assert fragment == rule.lower()
        assert fragment in ids(reader.get(url).content.decode())

    def test_a_rule_may_stand_before_its_sentence(self) -> None:
        assert pages.help_url("R40 · its replication has stopped") == pages.help_url("R40") != ""

    @pytest.mark.parametrize("rule", ["", "A20", "Z99", "D00", None, "<script>"])
    def test_an_unknown_rule_gets_no_link(self, rule: str | None) -> None:
        assert tag("{% help_link rule %}", rule=rule) == ""

    def test_a_link_has_a_name(self) -> None:
        assert "Help on D10" in tag("{% help_link 'D10' %}")
        assert ">why &lt;that&gt;</a>" in tag("{% help_link 'D10' text=words %}", words="why <that>")

    @pytest.mark.parametrize("status", NodeStatus)
    def test_every_status_of_a_node_leads_to_its_section(self, status: NodeStatus) -> None:
        assert f'href="{pages.page_url("status")}#node-' in tag("{% status_help status %}", status=status)

    @pytest.mark.parametrize(("group", "words"), [("vault", VAULT_WORDS), ("service", SERVICE_WORDS)])
    def test_every_word_of_the_vault_and_the_services_leads_to_its_section(
        self, group: str, words: tuple[object, ...]
    ) -> None:
        for word in words:
            assert f"#{group}-" in tag("{% status_help word group %}", word=str(word), group=group), word

    @pytest.mark.parametrize("word", ["", None, "nonsense", "<b>"])
    @pytest.mark.parametrize("group", ["node", "vault", "service"])
    def test_an_unknown_word_gets_no_link(self, word: str | None, group: str) -> None:
        assert tag("{% status_help word group %}", word=word, group=group) == ""

    def test_words_in_the_language_of_the_reader_lead_there_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        catalogue = translation.trans_real.translation("en")
        monkeypatch.setitem(catalogue._catalog._catalogs[0], "Solo", "Allein")
        with translation.override("en"):
            html = tag("{% status_help 'Allein' 'vault' %}")
        assert "#vault-solo" in html
        assert "Help on Allein" in html


class TestStatusPage:
    @staticmethod
    def headings(group: str) -> dict[str, str]:
        """The headings of a group, each with its text."""
        text = (ROOT / "docs/runbook/status.md").read_text()
        part = next(part for part in re.split(r"^## ", text, flags=re.M)[1:] if part.lower().startswith(f"{group}:"))
        return {section.split("\n", 1)[0]: section for section in re.split(r"^### ", part, flags=re.M)[1:]}

    def test_every_status_has_a_heading_and_every_heading_a_status(self) -> None:
        assert set(self.headings("node")) == {pages.node_status_heading(status) for status in NodeStatus}
        assert set(STATUS_LABELS) == set(NodeStatus)

    def test_every_word_has_a_heading_and_every_heading_a_word(self) -> None:
        assert list(self.headings("vault")) == [str(word) for word in VAULT_WORDS]
        assert list(self.headings("service")) == [str(word) for word in SERVICE_WORDS]
        assert len(SERVICE_WORDS) == len(Light) + 1  # Stopping is a Triggered that was asked to stop

    def test_each_says_what_one_sees_what_it_means_and_what_to_do(self) -> None:
        for group in ("node", "vault", "service", "host"):
            for heading, text in self.headings(group).items():
                places = [text.find(f"- **{label}**: ") for label in ADVICE]
                assert -1 not in places, heading
                assert places == sorted(places), heading

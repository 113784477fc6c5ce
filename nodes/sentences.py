"""Sentences that were written in English and are read in another language.

Decisions and agents know no languages: what they say is stored and logged in English (docs/design/languages.md). For a reader of
another language it is looked up here, by the very sentences in the source (script/translations finds them): a template such as
"%(hostname)s is held back: %(quarantine)s" is recognised in what was said, and its gaps are looked up in turn. What is not
recognised, a server's own words for instance, stays as it is.
"""

import gettext
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings
from django.utils.translation import get_language, override, to_locale

DOMAIN = "sentences"
GAP = re.compile(r"%\((\w+)\)s")
SHAPES = {
    "host": r"\S*?",
    "hostname": r"\S*?",
    "name": r"\S*?",
    "span": r"\S+ \S+?",
    "number": r"[\d.,]+",
    "len": r"\d+",
    "rows": r"[\d.,]+",
    "setting": r"\w+",
    "figures": r"[^()]*",
    "looked": r"\S+ tables with \S+ rows were compared in \S+ s",
}
"""What some gaps hold: a hostname has no spaces, so that no sentence is swallowed by the one behind it; a span is "2.1 s"."""
NAMES = frozenset({"names", "hostnames"})
"""Gaps that hold "a, b and c"."""
RULE = re.compile(r"(?P<rule>[A-Z]\d{2,3} · )(?P<says>.*)", re.DOTALL)
BEFORE_RULE = re.compile(r" (?=[A-Z]\d{2,3} · )")
WITH_RULE = re.compile(r"(?P<first>.*) \((?P<rule>[A-Z]\d{2,3}) (?P<says>.*)\)", re.DOTALL)
"""An action with what was wrong: "the primary is lost: promote the acker (D10 its agent says …)"."""
QUANTITY = re.compile(r"[\d.,]+( [KMGT]?i?B| s| %)?")
"""Part of a list that is the same in every language."""
DEPTH = 10
"""A sentence may stand in the gap of another one, and so on."""
STOPS = 3
"""Full stops in one sentence of ours, at most."""
LONGEST = 2000
"""Characters. What is longer is no sentence of ours, and not searched for any."""


class _Catalogue(gettext.GNUTranslations):
    """The compiled sentences of one language, also those with gaps as patterns."""

    _catalog: Mapping[object, str]

    @property
    def sentences(self) -> dict[str, str]:
        return {msgid: text for msgid, text in self._catalog.items() if isinstance(msgid, str) and msgid}


def pattern(template: str) -> re.Pattern[str]:
    """What the template may have become. A name that stands twice has to be the same twice only if it is the same gap."""
    parts, last, seen = [], 0, set()
    for gap in GAP.finditer(template):
        parts.append(re.escape(template[last : gap.start()]))
        inside = SHAPES.get(gap[1].rstrip("0123456789"), ".*?")
        parts.append(f"(?P<{gap[1]}>{inside})" if gap[1] not in seen else f"(?P={gap[1]})")
        seen.add(gap[1])
        last = gap.end()
    parts.append(re.escape(template[last:]))
    return re.compile("".join(parts), re.DOTALL)


@dataclass(frozen=True)
class _Template:
    """A sentence with gaps, or a piece of one."""

    pieces: tuple[str, ...]
    """What must occur, the longest first: most texts lack it, and need no pattern."""
    shape: re.Pattern[str]
    translation: str
    begins: str


@dataclass(frozen=True)
class _Sentences:
    whole: Mapping[str, str]
    """Without gaps."""
    gapped: tuple[_Template, ...] = ()
    heads: tuple[tuple[str, str], ...] = ()
    """Beginnings that something is put behind: "no fallback is proven: ", and how they are said."""
    tails: tuple[_Template, ...] = ()
    """What is put behind a sentence: "; nobody is promoted: %(says)s"."""


@lru_cache
def _catalogue(language: str) -> _Sentences:
    try:
        found = gettext.translation(DOMAIN, settings.BASE_DIR / "locale", [to_locale(language)], _Catalogue)
    except OSError:
        return _Sentences({})
    assert isinstance(found, _Catalogue)
    # A piece that is put behind something begins with a space or a semicolon; alone it is said without.
    said = {msgid.lstrip(" "): text.lstrip(" ") for msgid, text in found.sentences.items()}
    bare = {msgid.lstrip(";, "): text.lstrip(";, ") for msgid, text in said.items() if msgid.startswith(("; ", ", "))}
    # The one that says most is the one that was meant.
    ordered = sorted((m for m in said if GAP.search(m)), key=lambda msgid: len(GAP.sub("", msgid)), reverse=True)
    gapped = tuple(_Template(_pieces(m), pattern(m), said[m], GAP.split(m, 1)[0]) for m in ordered)
    return _Sentences(
        {msgid: text for msgid, text in {**bare, **said}.items() if not GAP.search(msgid)},
        gapped,
        tuple((msgid, text) for msgid, text in said.items() if msgid.endswith(": ") and not GAP.search(msgid)),
        tuple(template for template in gapped if template.begins.startswith(("; ", ", "))),
    )


def _pieces(template: str) -> tuple[str, ...]:
    return tuple(sorted(filter(None, GAP.sub("\0", template).split("\0")), key=len, reverse=True))


@lru_cache(maxsize=4096)
def _in(language: str, text: str, depth: int = DEPTH) -> str:
    if (made := _one(language, text, depth)) is not None:
        return made
    return text if not depth or len(text) > LONGEST else _in_parts(language, text, depth - 1)


def _one(language: str, text: str, depth: int) -> str | None:
    """The translation of one sentence, not of several; None when it is none of ours."""
    known = _catalogue(language)
    if text in known.whole:
        return known.whole[text]
    if not depth or len(text) > LONGEST:
        return None
    filled = (_filled(language, template, text, depth - 1) for template in known.gapped)
    return next((made for made in filled if made is not None), None)


def _filled(language: str, template: _Template, text: str, depth: int) -> str | None:
    """The translation with the gaps of this text; None when the text is another one."""
    if not all(piece in text for piece in template.pieces) or not (found := template.shape.fullmatch(text)):
        return None
    gaps = {name: _in(language, said, depth) for name, said in found.groupdict().items()}
    for name in NAMES & gaps.keys():
        gaps[name] = gaps[name].replace(" and ", f" {_in(language, 'and')} ")
    return GAP.sub(lambda gap: gaps[gap[1]], template.translation)


def _in_list(language: str, text: str, depth: int) -> str | None:
    """Several sentences, each of them known; None when it is no such list."""
    for between in ("; ", ", ", ". ", " · "):
        if len(parts := _split(text, between)) < 2:
            continue
        if between == ". ":
            # The full stop belongs to the sentence, also when that is not the last one.
            if (told := _in_turn(language, [part + "." for part in parts[:-1]] + parts[-1:], depth)) is not None:
                return told
            continue
        known = [_in(language, part, depth) for part in parts]
        same = [before for before, after in zip(parts, known, strict=True) if before == after]
        if len(same) < len(known) and all(QUANTITY.fullmatch(part) for part in same):
            return between.join(known)
    return None


def _in_turn(language: str, sentences: list[str], depth: int) -> str | None:
    """Sentences behind each other. One of ours may have several full stops; None when one of them is not known."""
    told = []
    while sentences:
        for count in range(1, min(STOPS, len(sentences)) + 1):
            text = " ".join(sentences[:count])
            if (made := _in(language, text, depth)) != text:
                break
        else:
            return None
        told.append(made)
        sentences = sentences[count:]
    return " ".join(told)


def _split(text: str, between: str) -> list[str]:
    """At what stands in no parentheses: "a (b; c); d" has two parts."""
    parts, depth = [""], 0
    for piece in text.split(between):
        parts[-1] += (between if depth else "") + piece
        depth += piece.count("(") - piece.count(")")
        if not depth:
            parts.append("")
    return parts[:-1] if not depth else text.split(between)


def _in_parts(language: str, text: str, depth: int) -> str:
    """Sentences that were put together: a beginning or an end, or one with somebody's own words behind it."""
    if (bare := text.strip(" ")) != text:
        return text.replace(bare, _in(language, bare, depth + 1)) if bare else text
    if (made := _single(language, text, depth)) is not None:
        return made
    if len(sentences := BEFORE_RULE.split(text)) > 1:
        return " ".join(_in(language, sentence, depth) for sentence in sentences)
    if ruled := RULE.fullmatch(text):
        return ruled["rule"] + _in(language, ruled["says"], depth)
    if ruled := WITH_RULE.fullmatch(text):
        return f"{_in(language, ruled['first'], depth)} ({ruled['rule']} {_in(language, ruled['says'], depth)})"
    for head, translation in _catalogue(language).heads:
        if text.startswith(head):
            return translation + _in(language, text.removeprefix(head), depth)
    for tail in _catalogue(language).tails:
        first, begins, rest = text.partition(tail.begins)
        if first and begins and (made := _filled(language, tail, begins + rest, depth)) is not None:
            return _in(language, first, depth) + made
    if (listed := _in_list(language, text, depth)) is not None:
        return listed
    if (varied := _varied(language, text, depth)) != text:
        return varied
    first, colon, rest = text.partition(": ")
    return _in(language, first, depth) + colon + _in(language, rest, depth) if colon else text


def _single(language: str, text: str, depth: int) -> str | None:
    """One sentence with its full stop, or behind a word: "Failed: transfer: the agent ended; nothing was changed."."""
    first, colon, rest = text.partition(": ")
    if colon and " " not in first:
        made = _one(language, rest, depth)
        if made is None:
            made = _single(language, rest, depth)
        if made is not None:
            return _in(language, first, 0) + colon + made
    made = _one(language, text[:-1], depth) if text.endswith(".") else None
    return None if made is None else made + "."


def _varied(language: str, text: str, depth: int) -> str:
    """A sentence in parentheses, with a capital letter, or with a full stop, where its template has none, or without its own."""
    if text.startswith("(") and text.endswith(")"):
        return f"({_in(language, text[1:-1], depth)})"
    if text.endswith("."):
        return _in(language, text[:-1], depth) + "."
    if (whole := _one(language, text + ".", depth)) is not None:
        return whole.removesuffix(".")
    if text[:1].isupper() and text[1:2].islower():
        small = text[0].lower() + text[1:]
        if (made := _one(language, small, depth) or _single(language, small, depth)) is not None:
            return made[:1].upper() + made[1:]
    return text


def said(text: str) -> str:
    """The sentence in the reader's language, as far as it is known there."""
    language = get_language() or "en"
    return text if language.startswith("en") else _in(language, str(text))


def is_known(text: str) -> bool:
    """Whether the reader gets it in his own language: what is not known is English, for whoever reads it aloud."""
    language = get_language() or "en"
    return language.startswith("en") or not text or said(text) != text or text in _catalogue(language).whole


def written(label: Callable[[], object]) -> str:
    """A label as it is written down: in English, whoever's click it is."""
    with override("en"):
        return str(label())

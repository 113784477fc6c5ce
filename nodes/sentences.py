"""Sentences that were written in English and are read in another language.

Decisions and agents know no languages: what they say is stored and logged in English (docs/design/languages.md). For a reader of
another language it is looked up here, by the very sentences in the source (script/translations finds them): a template such as
"%(hostname)s is held back: %(quarantine)s" is recognised in what was said, and its gaps are looked up in turn. What is not
recognised, a server's own words for instance, stays as it is.
"""

import gettext
import re
from collections.abc import Mapping
from functools import lru_cache

from django.conf import settings
from django.utils.translation import get_language, to_locale

DOMAIN = "sentences"
GAP = re.compile(r"%\((\w+)\)s")
DEPTH = 4
"""A sentence may stand in the gap of another one, and so on."""


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
        parts.append(f"(?P<{gap[1]}>.*?)" if gap[1] not in seen else f"(?P={gap[1]})")
        seen.add(gap[1])
        last = gap.end()
    parts.append(re.escape(template[last:]))
    return re.compile("".join(parts), re.DOTALL)


@lru_cache
def _catalogue(language: str) -> tuple[dict[str, str], list[tuple[str, re.Pattern[str], str]]]:
    """Sentences without gaps, and those with gaps: the longest piece that must occur, the pattern, the translation."""
    try:
        found = gettext.translation(DOMAIN, settings.BASE_DIR / "locale", [to_locale(language)], _Catalogue)
    except OSError:
        return {}, []
    assert isinstance(found, _Catalogue)
    whole = {msgid: text for msgid, text in found.sentences.items() if not GAP.search(msgid)}
    gapped = [(msgid, text) for msgid, text in found.sentences.items() if GAP.search(msgid)]
    # The one that says most is the one that was meant.
    gapped.sort(key=lambda pair: len(GAP.sub("", pair[0])), reverse=True)
    return whole, [(max(GAP.sub("\0", m).split("\0"), key=len), pattern(m), text) for m, text in gapped]


@lru_cache(maxsize=4096)
def _in(language: str, text: str, depth: int = DEPTH) -> str:
    whole, gapped = _catalogue(language)
    if text in whole:
        return whole[text]
    if depth:
        for piece, shape, translation in gapped:
            if piece in text and (found := shape.fullmatch(text)):
                return translation % {name: _in(language, said, depth - 1) for name, said in found.groupdict().items()}
    return text


def said(text: str) -> str:
    """The sentence in the reader's language, as far as it is known there."""
    language = get_language() or "en"
    return text if language.startswith("en") else _in(language, str(text))

"""Which language a text is in, as far as its script and its stop words tell; unsure is an answer.

language_of("Wer da? Ich bin es, und ich komme von der Mühle.")  == "de"
another_language("I will not go there with you.", "zh")           == True
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_SCRIPTS = (
    ("kana", re.compile(r"[\u3040-\u30ff]")),
    ("han", re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")),
    ("hangul", re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")),
    ("cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("greek", re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]")),
    ("arabic", re.compile(r"[\u0600-\u06ff]")),
    ("hebrew", re.compile(r"[\u0590-\u05ff]")),
    ("thai", re.compile(r"[\u0e00-\u0e7f]")),
    ("devanagari", re.compile(r"[\u0900-\u097f]")),
    ("latin", re.compile(r"[A-Za-z\u00c0-\u024f]")),
)
_SCRIPT_OF = {
    "zh": "han", "ja": "kana", "ko": "hangul", "ru": "cyrillic", "uk": "cyrillic", "bg": "cyrillic", "sr": "cyrillic",
    "el": "greek", "ar": "arabic", "fa": "arabic", "he": "hebrew", "th": "thai", "hi": "devanagari",
}  # fmt: skip
_LANGUAGE_OF = {"han": "zh", "kana": "ja", "hangul": "ko", "cyrillic": "ru", "greek": "el", "arabic": "ar",
                "hebrew": "he", "thai": "th", "devanagari": "hi"}  # fmt: skip
# Words that are frequent in one language and rare in the others.
_STOP = {
    "en": "the and of to is was that you for with it he she his her they this have not are my me what but be will",
    "de": "der die das und ist nicht ich du ein eine zu den mit sich auf dem wie er sie es ihr mir mich so wenn wir",
    "fr": "le la les et est pas je vous nous une des que qui dans pour ce il elle mon ma mais avec sur au plus ne",
    "es": "el la los las y es que no un una por con para su lo se me mi yo pero como más está usted muy del al",
    "it": "il lo la gli e è che non un una per con di sono mi ma come si del della questo io ho anche più ti",
    "pt": "o a os as e é que não um uma por com para eu se meu minha mas como mais você do da em está muito",
    "nl": "de het een en is niet ik je dat van te op met zijn voor maar hij ze wat we nog als ook er aan",
}
_STOP_SETS = {language: frozenset(words.split()) for language, words in _STOP.items()}
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
LEAST_LETTERS, LEAST_HAN, LEAST_WORDS = 20, 4, 6


def code(language: str) -> str:
    """`zh` of `zh-CN`; empty for `auto`."""
    short = language.strip().lower().replace("_", "-").split("-")[0]
    return "" if short in ("auto", "und") else short


def language_of(text: str) -> str:
    """The language of a longer text (`en`, `zh`, ...); an empty string when nothing decides."""
    counts = _scripts(text)
    total = sum(counts.values())
    if not total:
        return ""
    if counts["kana"] > 0.1 * total:
        return "ja"
    script, most = counts.most_common(1)[0]
    if most <= total / 2:
        return ""
    if script != "latin":
        return _LANGUAGE_OF[script]
    stops = _stop_words(text)
    ranked = stops.most_common(2)
    if not ranked or ranked[0][1] < 3 or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return ""
    return ranked[0][0]


def language_of_many(texts: Iterable[str], most_chars: int = 100_000) -> str:
    """The language of the first `most_chars` characters of many short texts together."""
    taken: list[str] = []
    size = 0
    for text in texts:
        taken.append(text)
        size += len(text)
        if size >= most_chars:
            break
    return language_of("\n".join(taken))


def another_language(text: str, expected: str) -> bool:
    """Whether a text is surely in another language than `expected`; never for short ones, or when nothing is expected.

    Names and quotations in another script pass: it takes more than half of the letters, or, among languages of one
    script, three times as many stop words of another language.
    """
    if not (expected := code(expected)):
        return False
    counts = _scripts(text)
    total = sum(counts.values())
    script = _SCRIPT_OF.get(expected, "latin")
    own = counts[script] + (counts["han"] if script == "kana" else 0)
    foreign, most = max(
        ((name, n) for name, n in counts.items() if name != script), key=lambda one: one[1], default=("", 0)
    )
    if script == "kana":
        return total - own > own and total >= LEAST_LETTERS
    if script == "han" and counts["kana"] * 4 > own and counts["kana"] >= LEAST_HAN:
        return True
    if most > own and most >= (LEAST_HAN if foreign in ("han", "kana", "hangul") else LEAST_LETTERS):
        return True
    if script != "latin" or expected not in _STOP_SETS or len(_WORD.findall(text)) < LEAST_WORDS:
        return False
    stops = _stop_words(text)
    rival = max((n for language, n in stops.items() if language != expected), default=0)
    return rival >= 3 and rival >= 3 * max(1, stops[expected])


def _scripts(text: str) -> Counter[str]:
    if text.isascii():
        return Counter(latin=sum(map(str.isalpha, text)))
    return Counter({name: n for name, pattern in _SCRIPTS if (n := len(pattern.findall(text)))})


def _stop_words(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for word in _WORD.findall(text.casefold()):
        for language, words in _STOP_SETS.items():
            if word in words:
                found[language] += 1
    return found

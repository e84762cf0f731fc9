"""Acceptance: why a draft is not learned. Every check gives a reason, or "" when the draft passes.

    refusal(draft, step.checks, language, instructions) -> str

Reasons are short and the same for all rows of a sort, so that they can be counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

from understudy.augmentation.job import Draft
from understudy.augmentation.prompting import base_language
from understudy.augmentation.steps import Checks

EMPTY = "empty"
LANGUAGE = "wrong language"
SHORT, LONG = "too short", "too long"
TRIGGER = "style trigger missing"
COPIED = "copy of an example"
ASSISTANT = "assistant talk"
LEAKED = "leaked prompt"
REPEATED = "repeated"
JUDGE = "judge"
NGRAM_WORDS, NGRAM_HAN = 4, 6
"""Length of the word sequences by which copies are found: words, or characters of Chinese and Japanese."""
LEAK_WORDS, LEAK_HAN = 8, 14
"""So many words (characters) of the instructions in a row are no coincidence."""

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af]|[^\W_]+(?:['’][^\W_]+)*")
_SCRIPTS = {
    "zh": ("CJK UNIFIED", "CJK COMPATIBILITY"),
    "ja": ("CJK UNIFIED", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL",),
    "ru": ("CYRILLIC",),
    "uk": ("CYRILLIC",),
    "el": ("GREEK",),
    "ar": ("ARABIC",),
    "he": ("HEBREW",),
}
_ENGLISH = re.compile(
    r"\b(?:the|an?|and|or|but|of|to|in|on|at|for|with|is|are|was|be|been|i|you|he|she|it|we|they|me|my|your|his|her|our"
    r"|this|that|not|no|so|as|if|do|have|has|had|will|would|can|could|all|what|who|when|there|from|by)\b"
)
# A word in ten of ordinary English is one of these; German or French has next to none of them.
_ENGLISH_LEAST, _ENGLISH_FROM = 0.12, 12
_ASSISTANT = re.compile(
    r"""
    \bas\s+an?\s+(?:ai|artificial\s+intelligence|language\s+model|assistant|chatbot)\b
    | \bi(?:\s+am|['’]m)\s+(?:just\s+|only\s+)?an?\s+(?:virtual\s+|large\s+)?
      (?:ai|artificial\s+intelligence|language\s+model|chatbot|assistant)\b
    | \b(?:openai|chatgpt|anthropic)\b
    | ^\s*(?:sure|certainly|of\s+course|absolutely)[,!.]?\s+(?:here|i['’]d\s+be\s+happy|i\s+can\s+help)
    | \bhere(?:['’]s|\s+is|\s+are)\s+(?:the|a|an|your|my|some)\s+[^.\n]{0,60}:\s*(?:\n|$|["“])
    | \bi(?:['’]m|\s+am)\s+sorry,?\s+but\s+i\s+(?:can['’]?t|cannot)\s+(?:assist|help\s+with|fulfil|comply|provide)
    | \b(?:how\s+(?:can|may)\s+i\s+(?:assist|help)\s+you\s+today|feel\s+free\s+to\s+ask|i\s+hope\s+this\s+helps)\b
    | \b(?:the|this)\s+(?:blessing|message|greeting|reply)\s+is\s+as\s+follows\b
    | 作为(?:一[个名款])?(?:AI|人工智能|大?语言模型|智能助手|聊天机器人)
    | 我(?:只)?是(?:一[个名款])?(?:AI|人工智能|大?语言模型|智能助手|聊天机器人)
    | ^\s*(?:当然(?:可以)?|好的|没问题)[，,！!。]?\s*(?:以下|这里|下面|我来为您|这是)
    | (?:以下|下面|如下)(?:是|为)?[^。！？\n]{0,24}[：:]\s*(?:\n|$|[“"「])
    | (?:祝福|回复|内容|文案|示例)如下
    | 希望(?:这|以上)[^。！？\n]{0,12}(?:帮助|满意|喜欢|有用)
    | (?:抱歉|对不起)[，,]?\s*(?:但)?我(?:无法|不能)(?:提供|协助|帮助您|满足|生成)
    | 还有(?:什么|其他)(?:可以|需要)(?:帮|为)您
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_MARKUP = re.compile(
    r"\{\{?\s*\w+\s*\}?\}|<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|\[/?INST\]|</?(?:s|think|system|user|assistant)>"
    r"|^\s*#{1,6}\s|```|^\s*(?:system|user|assistant)\s*[:：]|\*\*[^*\n]+\*\*",
    re.IGNORECASE | re.MULTILINE,
)


def refusal(draft: Draft, checks: Checks, language: str, instructions: str) -> str:
    """Why the draft is not accepted, or "". `instructions`: the text of the prompt that no reply may quote."""
    return next((reason for reason in _reasons(draft, checks, language, instructions) if reason), "")


def _reasons(draft: Draft, checks: Checks, language: str, instructions: str) -> Iterator[str]:
    written = draft.learned if draft.written else []
    texts = written if draft.given else [*written, *draft.asked]
    yield draft.refused
    if not draft.learned or not all(text.strip() for text in draft.learned + draft.asked):
        yield EMPTY
    bounds = checks.length or draft.bounds
    if bounds:
        yield from (length(text, bounds) for text in written)
    if checks.language:
        yield from (LANGUAGE for text in texts if not speaks(text, language))
    if checks.trigger and draft.trigger and written:
        yield "" if re.search(draft.trigger, "\n".join(written), re.IGNORECASE) else TRIGGER
    if checks.assistant:
        yield from (ASSISTANT for text in texts if is_assistant_talk(text))
    if checks.leaked:
        yield from (LEAKED for text in texts if is_leaked(text, instructions))
    if checks.copied is not None and draft.examples:
        yield from (COPIED for text in written if copied(text, draft.examples) > checks.copied)


def length(text: str, bounds: tuple[int, int]) -> str:
    """Too short, too long, or ""; characters without the blanks at both ends."""
    count = len(text.strip())
    return SHORT if count < bounds[0] else LONG if count > bounds[1] else ""


def speaks(text: str, language: str) -> bool:
    """Whether `text` is in `language`, as far as its letters tell; a text without letters is in every language.

    Languages with a script of their own are told by it; English of twelve words and more also by its small words.
    """
    key = base_language(language)
    letters = [char for char in text if char.isalpha()]
    if not letters or key in ("", "auto", "any"):
        return True
    wanted = _SCRIPTS.get(key, ("LATIN",))
    own = sum(_script(char).startswith(wanted) for char in letters)
    if own < 0.6 * len(letters) or (key == "zh" and len(_KANA.findall(text)) > 0.05 * len(letters)):
        return False
    words = len(re.findall(r"[^\W\d_]+", text))
    return key != "en" or words < _ENGLISH_FROM or len(_ENGLISH.findall(text.casefold())) >= _ENGLISH_LEAST * words


@lru_cache(maxsize=8192)
def _script(char: str) -> str:
    return unicodedata.name(char, "")


def is_assistant_talk(text: str) -> bool:
    """Whether an assistant speaks, or announces what it wrote, instead of the persona."""
    return _ASSISTANT.search(text) is not None


def is_leaked(text: str, instructions: str) -> bool:
    """Whether it holds markup, a placeholder, or a long run of words of the prompt's instructions."""
    if _MARKUP.search(text):
        return True
    tokens, size = _tokens(text)
    least = LEAK_HAN if size == NGRAM_HAN else LEAK_WORDS
    return not _grams(tokens, least).isdisjoint(_instruction_grams(instructions, least))


@lru_cache(maxsize=256)
def _instruction_grams(instructions: str, size: int) -> frozenset[tuple[str, ...]]:
    return frozenset(_grams(_tokens(instructions)[0], size))


def copied(text: str, examples: tuple[str, ...]) -> float:
    """The largest share (0 to 1) of the text's word sequences that stand in one example; 1 for the same words."""
    tokens, size = _tokens(text)
    own = _grams(tokens, size)
    shares = [0.0]
    for example in examples:
        known, grams = _example(example, size)
        if tokens == list(known):
            return 1.0
        if own:
            shares.append(len(own & grams) / len(own))
    return max(shares)


@lru_cache(maxsize=4096)
def _example(text: str, size: int) -> tuple[tuple[str, ...], frozenset[tuple[str, ...]]]:
    tokens, _ = _tokens(text)
    return tuple(tokens), frozenset(_grams(tokens, size))


def _tokens(text: str) -> tuple[list[str], int]:
    """Words (characters where they are Chinese) in small letters, and the length of the sequences to compare."""
    tokens = _TOKEN.findall(text.casefold())
    han = sum(bool(_HAN.match(token) or _KANA.match(token)) for token in tokens)
    return tokens, NGRAM_HAN if han * 2 > len(tokens) else NGRAM_WORDS


def _grams(tokens: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}


def repeats() -> Callable[[Draft], bool]:
    """A function that tells whether the same replies came before; case, blanks and punctuation do not matter."""
    seen: set[tuple[str, ...]] = set()

    def again(draft: Draft) -> bool:
        said = tuple(
            "".join(filter(str.isalnum, text.casefold())) for text in (draft.learned if draft.written else draft.asked)
        )
        if said in seen:
            return True
        seen.add(said)
        return False

    return again

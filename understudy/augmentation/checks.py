"""Acceptance: why a draft is not learned. Every check gives a reason, or "" when the draft passes.

    refusal(draft, step.checks, language, instructions) -> str

Reasons are short and the same for all rows of a sort, so that they can be counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from understudy.augmentation.job import Draft
from understudy.augmentation.steps import Checks
from understudy.cleaning.language import another_language
from understudy.cleaning.overlap import grams
from understudy.letters import letters

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
    """Whether `text` may be in `language`; only what is surely in another one is not."""
    return not another_language(text, language)


def is_assistant_talk(text: str) -> bool:
    """Whether an assistant speaks, or announces what it wrote, instead of the persona."""
    return _ASSISTANT.search(text) is not None


def is_leaked(text: str, instructions: str) -> bool:
    """Whether it holds markup, a placeholder, or a long run of words of the prompt's instructions."""
    if _MARKUP.search(text):
        return True
    return not _leak_grams(instructions).isdisjoint(grams(text, LEAK_WORDS, LEAK_HAN))


@lru_cache(maxsize=256)
def _leak_grams(instructions: str) -> frozenset[str]:
    return frozenset(grams(instructions, LEAK_WORDS, LEAK_HAN))


def copied(text: str, examples: tuple[str, ...]) -> float:
    """The largest share (0 to 1) of the text's word sequences that stand in one example; 1 for the same words."""
    same = letters(text)
    own = set(grams(text, NGRAM_WORDS, NGRAM_HAN))
    shares = [0.0]
    for example in examples:
        words, known = _example(example)
        shares.append(1.0 if words == same else len(own & known) / len(own) if own else 0.0)
    return max(shares)


@lru_cache(maxsize=4096)
def _example(text: str) -> tuple[str, frozenset[str]]:
    return letters(text), frozenset(grams(text, NGRAM_WORDS, NGRAM_HAN))


def repeats() -> Callable[[Draft], bool]:
    """A function that tells whether the same replies came before; case, blanks and punctuation do not matter."""
    seen: set[tuple[str, ...]] = set()

    def again(draft: Draft) -> bool:
        said = tuple(map(letters, draft.learned if draft.written else draft.asked))
        if said in seen:
            return True
        seen.add(said)
        return False

    return again

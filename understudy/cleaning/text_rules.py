"""Rules that look at one answer: put it right where they can, name what is wrong where they cannot.

    text, reason, done = mended("Answer: So be it.<|im_end|>", "generated", CleanConfig(), Heard(question="Well?"))
    reason = reason or judged(text, "generated", CleanConfig(), Heard(question="Well?"))

Those that mend run first, in the order of MENDING and until nothing changes, so that a label behind a bold mark goes as
well, and cleaning twice is cleaning once; then those that only judge. Every function here is pure.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from understudy.cleaning.config import (
    CleanConfig,
    Closing,
    Length,
    Markup,
    PersonalData,
    PromptLeak,
    Quotes,
    RoleTags,
    Source,
    Stub,
)
from understudy.cleaning.language import another_language
from understudy.cleaning.overlap import grams, tokens
from understudy.cleaning.personal import personal_data
from understudy.letters import letters

ROLE_TAG, MARKUP, STUB, QUOTES, CLOSING = "role tag", "markup", "stub", "unbalanced quotes", "closing punctuation"
SHORT, LONG, LEAK, LANGUAGE, PERSONAL = "too short", "too long", "prompt leak", "wrong language", "personal data"
EMPTY = "empty"


@dataclass(frozen=True)
class Heard:
    """What an answer is judged against."""

    question: str = ""
    """What the persona answers to."""
    system: str = ""
    """Every system text that the model was given."""
    names: tuple[str, ...] = ()
    """How the persona is called; `Adam:` before an answer of Adam is a label."""
    language: str = ""
    """Expected language; empty when it is not known."""


Outcome = tuple[str, str]
"""The answer, mended where that was possible, and the reason to drop it or nothing."""

_SPECIAL = r"<\|[\w ]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
_FIRST_SPECIALS = re.compile(rf"^(?:{_SPECIAL}|\s)*(?:{_SPECIAL})\s*(?:(?:assistant|model)[ \t]*\n)?")
_LAST_SPECIAL = re.compile(rf"(?:{_SPECIAL})$")
_ANY_SPECIAL = re.compile(_SPECIAL)
_THINKING = re.compile(r"^\s*<(think|thinking|thought|reasoning)>.*?</\1>\s*", re.DOTALL)
_ANY_THINKING = re.compile(r"</?(?:think|thinking|reasoning)>")
_LABEL = re.compile(
    r"^[\s#>\[【(（]{0,4}(\*\*|__)?[\[【(（]?(?:(?:final |my )?(?:answer|response|reply|output)|assistant|"
    r"回答|回复|答复|答案|答|助手|输出)[\s\]】)）]{0,4}(?(1)(?:\1\s*[:：]|[:：]\s*\1)|[:：])\s*",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"^[ \t*#]*(?:user|human|assistant|system|instruction|response|input|用户|助手|系统|问题|指令)[\s*]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)


def role_tags(text: str, rule: RoleTags, heard: Heard) -> Outcome:
    """Labels and tokens at either end go; one in the middle means that the answer ran on into another turn."""
    text = _FIRST_SPECIALS.sub("", _THINKING.sub("", text)).rstrip()
    while match := _LAST_SPECIAL.search(text, max(0, len(text) - 60)):
        text = text[: match.start()].rstrip()
    text = _LABEL.sub("", text, count=1)
    for name in heard.names:
        if name and text.startswith(name) and (match := re.match(r"\s*[:：]\s*", text[len(name) :])):
            text = text[len(name) + match.end() :]
            break
    left = _ANY_SPECIAL.search(text) or _ANY_THINKING.search(text) or _TURN.search(text)
    return text.strip(), ROLE_TAG if left else ""


_TAG_NAMES = (
    "p|br|hr|div|span|b|i|u|em|strong|small|ul|ol|li|a|h[1-6]|table|thead|tbody|tr|td|th|code|pre|img|font|center|"
    "blockquote|html|head|body|script|style|iframe|sup|sub|svg|button|input|form|section|article"
)
_BLOCK_END = re.compile(r"<br\s*/?>|</(?:p|div|li|h[1-6]|tr)>", re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?:\s[^<>]{{0,300}})?/?>", re.IGNORECASE)
_CODE_TAG = re.compile(r"<(?:script|style|iframe|table|pre|form|svg)\b", re.IGNORECASE)
_ENTITY = re.compile(
    r"&(?:nbsp|amp|lt|gt|quot|apos|hellip|mdash|ndash|[lr][sd]quo|#\d{1,6}|#x[\da-f]{1,5});", re.IGNORECASE
)
_WHOLE_FENCE = re.compile(r"^```[\w-]*\n(.*?)\n?```$", re.DOTALL)
_BOLD = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}[ \t]+", re.MULTILINE)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[([^\]\n]{1,200})\]\((?:https?://|/|#|mailto:)[^)\s]*\)")
_BULLETS = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,2}[.)、])[ \t]*\S", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE)
LIST_ITEMS = 3
"""Fewer lines that begin with a dash are speech: a dash opens a speech in many languages."""


def markup(text: str, rule: Markup, heard: Heard) -> Outcome:
    """Marks around words go and the words stay; scripts, tables, lists and code are no speech."""
    if _CODE_TAG.search(text):
        return text, MARKUP
    if "<" in text:
        text = re.sub(r"\n{3,}", "\n\n", _TAG.sub("", _BLOCK_END.sub("\n", text)))
    text = _ENTITY.sub(lambda match: html.unescape(match.group()).replace("\xa0", " "), text)
    if not rule.markdown:
        return text.strip(), ""
    text = _WHOLE_FENCE.sub(r"\1", text.strip())
    if "```" in text or len(_TABLE.findall(text)) > 1 or len(_BULLETS.findall(text)) >= LIST_ITEMS:
        return text, MARKUP
    text = _HEADING.sub("", _BOLD.sub(r"\2", text))
    text = _LINK.sub(r"\1", _INLINE_CODE.sub(r"\1", text))
    return text.strip(), MARKUP if "**" in text else ""


_ANNOUNCED = r"(?:祝福|祝词|贺词|祝语|回答|回复|内容|文案|答案|示例|版本|对话|台词|消息|短信)"
_UP_TO = r"[^。！？!?\n：:]"
_INTRO_HAN = re.compile(
    rf"^(?:好的|当然(?:可以)?|没问题|可以)?[，,！!。~～]*\s*(?:"
    rf"(?:(?:以下|下面)(?:就|便)?(?:是|为){_UP_TO}{{0,40}}{_ANNOUNCED}{_UP_TO}{{0,10}}|"
    rf"{_UP_TO}{{0,30}}{_ANNOUNCED}[语]?如下)(?:[：:。]\s*|\s*$|\s*\n\s*)|"
    rf"这(?:就|便)?是{_UP_TO}{{0,40}}{_ANNOUNCED}{_UP_TO}{{0,10}}[：:]\s*)"
)
_THING = (
    r"(?:blessings?|wish(?:es)?|greetings?|response|reply|message|rewrite|version|translation|example|dialogue|answer)"
)
_INTRO_WORDS = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely|great)[ ,!.]*)?\s*(?:"
    rf"(?:here(?:'s|’s| is| are)|below (?:is|are)|this is)\b[^\n.:!?]{{0,60}}\b{_THING}\b[^\n.:!?]{{0,60}}[:：]|"
    r"(?:the|your|my|its)\b[^\n.:!?]{0,60}\b(?:is|are) as follows\s*[:：.]?)\s*",
    re.IGNORECASE,
)
_SURE = re.compile(r"^(?:sure|certainly|of course|好的|没问题)[ ,!，！]*[:：]$", re.IGNORECASE)
_NOTHING = frozenset(
    ("na", "none", "null", "nil", "nan", "todo", "tbd", "undefined", "blank", "待补充", "此处省略", "暂无", "略")
)
_PLACEHOLDER = re.compile(
    r"\[(?:your|insert|recipient|the|first|last|user)?['’s ]*(?:name|text here|date|company)\]|\{\{?\w{1,30}\}?\}|"
    r"[\[【（(](?:你的|您的|对方|收件人)?(?:名字|姓名|称呼)[\]】）)]|\bX{2,}(?:先生|女士|同学|老师)",
    re.IGNORECASE,
)


def stub(text: str, rule: Stub, heard: Heard) -> Outcome:
    """What announces an answer goes; one that only announces, says nothing, or has a gap to fill in, is a stub."""
    announced = text
    for intro in (_INTRO_HAN, _INTRO_WORDS):
        text = intro.sub("", text, count=1)
    bare = letters(text)
    if not bare:
        return text, STUB if text != announced else EMPTY
    nothing = bare in _NOTHING or _SURE.match(text) or bare in map(letters, rule.phrases)
    return text, STUB if nothing or _PLACEHOLDER.search(text) else ""


_PAIRS = (("“", "”"), ("「", "」"), ("『", "』"), ('"', '"'))
_MARKS = frozenset('“”„「」『』«»"')


def quotes(text: str, rule: Quotes, heard: Heard) -> Outcome:
    """An answer in quotes as a whole loses them, and so does one with a single quote at its edge that has no other."""
    for opening, closing in _PAIRS:
        inner = text[1:-1]
        if (
            len(text) > 2
            and text[0] == opening
            and text[-1] == closing
            and opening not in inner
            and closing not in inner
        ):
            text = inner.strip()
            break
    if _balanced(text):
        return text, ""
    for edge, shorter in ((text[0], text[1:].strip()), (text[-1], text[:-1].strip())):
        if edge in _MARKS and shorter and _balanced(shorter):
            return shorter, ""
    return text, QUOTES


def _balanced(text: str) -> bool:
    """Whether every kind of quote opens before it closes and closes as often; also „this“, »this« and ”this”."""
    if text.count('"') % 2 or not _closes(text, "「", "」") or not _closes(text, "『", "』"):
        return False
    if "«" in text or "»" in text:
        outward = text.find("«") >= 0 and not 0 <= text.find("»") < text.find("«")
        if not (_closes(text, "«", "»") if outward else _closes(text, "»", "«")):
            return False
    if "„" in text:
        return text.count("„") == text.count("“") + text.count("”")
    return _closes(text, "“", "”") if "“" in text else text.count("”") % 2 == 0


def _closes(text: str, opening: str, closing: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == opening) - (char == closing)
        if depth < 0:
            return False
    return depth == 0


_PARTICLE_END = re.compile(
    r"(?<=[\u3400-\u9fff])(?:[，,、；;]\s*[啊呀哦喔哟呢吗嘛吧啦呗咯]|[。！!？?~～…]+\s*[呢吗嘛吧啦呗咯])(?=[。！!？?~～…”』」]*\s*$|[。！!？?\n])"
)


def closing(text: str, rule: Closing, heard: Heard) -> Outcome:
    """`万事如意，呀！` becomes `万事如意呀！`; 啊, 哦 and 呀 after a full stop are words of their own and stay."""
    return _PARTICLE_END.sub(lambda match: match.group()[-1], text), ""


def length(text: str, rule: Length, source: Source) -> str:
    """The reason when an answer has too few or too many characters for its source."""
    own = rule.by_source.get(source)
    least = rule.min_chars if own is None or own.min_chars is None else own.min_chars
    most = rule.max_chars if own is None or own.max_chars is None else own.max_chars
    size = len(text.strip())
    return SHORT if size < least else LONG if size > most else ""


_INSTRUCTED = re.compile(
    r"\b(?:the|your) (?:above|given|provided|following) (?:prompt|examples?|instructions?|requirements?)\b|"
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b|"
    r"(?:根据|按照|遵照)(?:你|您|以上|上述|给定|所给)的?(?:设定|要求|提示|示例|指令|例子)|作为(?:一个|一名)?(?:AI|人工智能|语言模型)",
    re.IGNORECASE,
)


def prompt_leak(text: str, rule: PromptLeak, heard: Heard) -> str:
    """The reason when an answer repeats its system text or its whole question, or speaks of its instructions."""
    if _INSTRUCTED.search(text) and not _INSTRUCTED.search(heard.question):
        return LEAK
    if heard.system:
        told = _told(heard.system, rule.words, rule.han)
        if told and any(gram in told for gram in grams(text, rule.words, rule.han)):
            return LEAK
    asked = tokens(heard.question)
    if len(asked) >= rule.words and f" {' '.join(asked)} " in f" {' '.join(tokens(text))} ":
        return LEAK
    return ""


_TOLD: dict[tuple[str, int, int], frozenset[str]] = {}


def _told(system: str, words: int, han: int) -> frozenset[str]:
    key = (system, words, han)
    if key not in _TOLD:
        if len(_TOLD) > 64:
            _TOLD.clear()
        _TOLD[key] = frozenset(grams(system, words, han))
    return _TOLD[key]


Mending = Callable[[str, Any, Heard], Outcome]
MENDING: tuple[tuple[str, Mending], ...] = (
    ("role_tags", role_tags),
    ("markup", markup),
    ("stub", stub),
    ("quotes", quotes),
    ("closing", closing),
)
REASON_OF = {"role_tags": ROLE_TAG, "markup": MARKUP, "stub": STUB, "quotes": QUOTES, "closing": CLOSING}
MOST_ROUNDS = 4


def mended(text: str, source: Source, clean: CleanConfig, heard: Heard) -> tuple[str, str, tuple[str, ...]]:
    """(text, reason, what was mended): the rules that can put an answer right, until nothing changes any more."""
    done: list[str] = []
    for _ in range(MOST_ROUNDS):
        before = text
        for name, function in MENDING:
            rule = getattr(clean, name)
            if rule is None or source not in rule.sources:
                continue
            after, reason = function(text, rule, heard)
            if reason or (after != text and not rule.mend):
                return text, reason or REASON_OF[name], tuple(done)
            if after != text and REASON_OF[name] not in done:
                done.append(REASON_OF[name])
            text = after
        if text == before:
            break
    return text, "", tuple(done)


def judged(text: str, source: Source, clean: CleanConfig, heard: Heard) -> str:
    """The reason to drop an answer that needs no mending any more, or nothing."""
    rule: Any
    if (rule := clean.length) and source in rule.sources and (reason := length(text, rule, source)):
        return reason
    if (rule := clean.prompt_leak) and source in rule.sources and (reason := prompt_leak(text, rule, heard)):
        return reason
    if (rule := clean.language) and source in rule.sources and another_language(text, heard.language):
        return LANGUAGE
    return ""


def judged_whole(texts: list[str], source: Source, clean: CleanConfig) -> str:
    """The reason to drop a conversation for what stands anywhere in it, or nothing."""
    rule: PersonalData | None = clean.personal
    if rule is None or source not in rule.sources:
        return ""
    return PERSONAL if any(personal_data(text, rule.kinds) for text in texts) else ""

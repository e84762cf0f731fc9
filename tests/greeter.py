"""A scripted model that writes greetings for examples/greetings: mostly good ones, and every fault at a known rate.

    with endpoint(greet) as url: ...

What it writes depends on the request alone, so two runs give the same texts. `fault_of` tells the fault of a request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

FAULTS = (
    "assistant talk",
    "copy of an example",
    "too long",
    "wrong language",
    "style trigger missing",
    "leaked prompt",
)
"""The first six of a hundred requests by hash: one of each."""
ZH = {
    "open": ["今早推开窗就想起了你", "路上听见有人唱歌", "灶上的水刚烧开", "把旧相册翻了一遍", "邮差敲门的时候"],
    "middle": [
        "想着{occasion}，{recipient}该歇一歇了",
        "{recipient}这一年真不容易，{occasion}要好好过",
        "记着{recipient}爱吃的，{occasion}我都备下了",
    ],
    "close": ["夜里早点睡", "凳子给你留着", "茶要趁热喝", "下回见面再细说", "灯我替你点着", "路滑慢些走"],
    "家常": "",
    "庄重": "谨此问候，",
    "俏皮": "🎉",
}
EN = {
    "open": ["I thought of you by the well this morning", "The kettle is on and the window open"],
    "middle": ["and this {occasion} is for my {recipient} alone", "so let the {occasion} find my {recipient} at rest"],
    "close": ["the chair by the fire is yours", "I have kept you the last of the plums", "mind the step when you come"],
    "plain": "",
    "solemn": "With respect and my sincere wish: ",
    "playful": "Ha! ",
}
FOREIGN = {
    True: "With respect! May this day be a good day for you and all of the family 🎉",
    False: "谨祝！愿你平安喜乐，岁岁年年都有好光景，灯火可亲，诸事顺遂，万事胜意，身体安康，阖家团圆，笑口常开。",
}
LEAK = {
    True: "写好就能直接发出去；前面后面都不要加别的话。谨🎉",
    False: " Write the text itself, ready to be sent; nothing before it! I wish.",
}
TALK = {True: "好的，以下是为您写的祝福：", False: "Sure, here is a greeting for you:"}


def greet(messages: Sequence[Mapping[str, str]], request: Mapping[str, Any]) -> str:
    """A greeting in the style and language that the prompt asks for; one in hundred with each fault."""
    user = messages[-1]["content"]
    return _faulty(fault_of(messages), good(messages, request), _style(messages), user, _is_chinese(messages))


def good(messages: Sequence[Mapping[str, str]], request: Mapping[str, Any]) -> str:
    """A greeting without fault, another one for another prompt."""
    system, user = messages[0]["content"], messages[-1]["content"]
    chinese, style = _is_chinese(messages), _style(messages)
    recipient = re.search(r"(?:对象：|Recipient: )([\w ]+)", user)
    occasion = re.search(r"(?:场合：|Occasion: )([\w ]+)", user)
    assert recipient
    assert occasion
    values = {"recipient": recipient[1].strip(), "occasion": occasion[1].strip()}
    return _written(ZH if chinese else EN, style, values, _draw(system + user), chinese)


def _is_chinese(messages: Sequence[Mapping[str, str]]) -> bool:
    return "风格：" in messages[0]["content"]


def _style(messages: Sequence[Mapping[str, str]]) -> str:
    style = re.search(r"(?:风格：|Style: )(\w+)", messages[0]["content"])
    assert style
    return style[1]


def fault_of(messages: Sequence[Mapping[str, str]]) -> str:
    """The fault that the answer to these messages has, or ""."""
    number = _draw(messages[0]["content"] + messages[-1]["content"]) % 100
    return FAULTS[number] if number < len(FAULTS) else ""


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _written(words: Mapping[str, Any], style: str, values: Mapping[str, str], draw: int, chinese: bool) -> str:
    parts = []
    for part in ("open", "middle", "close"):
        draw, at = divmod(draw, len(words[part]))
        parts.append(words[part][at].format(**values))
    said = f"{words[style]}{('，' if chinese else ', ').join(parts)}"
    return (
        f"{said}，第{draw % 9973}封信。"
        if chinese
        else f"{said}. Letter {draw % 9973}{'!' if style == 'playful' else '.'}"
    )


def _faulty(fault: str, good: str, style: str, user: str, chinese: bool) -> str:
    if fault == "assistant talk":
        return f"{TALK[chinese]}\n{good}"
    if fault == "copy of an example":
        example = re.search(r"^1\. (.+)$", user, re.MULTILINE)
        assert example
        return example[1]
    if fault == "too long":
        return good * 20
    if fault == "wrong language":
        return FOREIGN[chinese]
    if fault == "style trigger missing" and style not in ("家常", "plain"):
        return re.sub("谨此问候，|🎉|With respect and my sincere wish: |[!?]", "", good)
    if fault == "leaked prompt":
        return good[:30] + LEAK[chinese]
    return good

"""The verdict of a judge model on a conversation that passed all checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.answers import TEXT, object_schema
from understudy.augmentation.prompting import Template, base_language, portrait
from understudy.conversation import Message
from understudy.persona import Persona

PROMPT_VERSION = 1
_CRITERION = {
    "en": "The replies sound like the character, answer what is asked, and are well written.",
    "zh": "回答要像这个角色说的，切合所问，写得好。",
}
_PROMPT = Template(
    system={
        "en": """You judge training dialogue for a character; be strict.
The character: {portrait}
What counts: {criterion}
First say in one sentence what is wrong or right, then give a score:
5 excellent, 4 good, 3 acceptable with faults, 2 poor, 1 unusable.
Answer with a JSON object with "reason" and "score".""",
        "zh": """你来评判给一个角色用的训练对话，要求严格。
角色：{portrait}
标准：{criterion}
先用一句话说出好在哪里、差在哪里，再打分：
5 极好，4 好，3 有毛病但可用，2 差，1 不能用。
只回答一个 JSON 对象，含 "reason" 和 "score"。""",
    },
    user={"en": "{dialogue}", "zh": "{dialogue}"},
)
_USER = {"en": "User", "zh": "用户"}
SCHEMA = object_schema({"reason": TEXT, "score": {"type": "integer", "minimum": 1, "maximum": 5}})


def verdict_messages(
    persona: Persona, messages: Sequence[Message], criterion: str, language: str
) -> tuple[dict[str, str], ...]:
    """What the judge is asked about a conversation; `criterion` "" takes the usual one."""
    key = "zh" if base_language(language) == "zh" else "en"
    names = {"user": _USER[key], "assistant": persona.display_name}
    said = [f"{names[message.role]}: {message.content}" for message in messages if message.role in names]
    return _PROMPT.messages(
        language, portrait=portrait(persona), criterion=criterion or _CRITERION[key], dialogue="\n".join(said)
    )


def read_verdict(value: Any) -> tuple[int, str]:
    """(score, reason); score 0 where there is no verdict."""
    if not isinstance(value, Mapping) or not isinstance(value.get("score"), int):
        return 0, "no verdict"
    return int(value["score"]), str(value.get("reason", ""))

"""Rendering: chat messages as the token ids that a base sees, the same in training and in serving.

    renderer = Renderer(tokenizer, template_kwargs)
    for sample in renderer.samples(messages): ...      # training and evaluation
    renderer.prompt_ids(messages)                      # what serving asks
    adapt(messages, renderer.shape)                    # what serving's ingress sends on to the engine

A turn that is learned continues template(messages before it + generation prompt): its tokens are what the template puts
after that prompt, up to and with the end-of-turn token. Where the rendering of the whole conversation keeps all these
prefixes it is one sample; where it does not (Qwen3 shows a think block in the last turn only) each turn is one.

The tokenizer is passed in; of it we use `chat_template`, `apply_chat_template`, `encode`, `eos_token` and the lists of
special tokens. Tool calls, images and reasoning history are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Protocol

from understudy.conversation import OPENING
from understudy.errors import BaseError, InputError

MARK = "\u200b"
"""Zero-width space: put inside a special token's string, it keeps that string text."""
IGNORED = -100
_DEFAULT_KWARGS: dict[str, Any] = {
    "enable_thinking": False,
    # Llama 3.1 and 3.2 print today's date when none is given: training and serving would part at midnight.
    "date_string": "26 Jul 2024",
}
_Ids = tuple[list[int], list[int]]
_MARKUP = re.compile(r"<[|｜][^\s<>]+[|｜]>|</?[A-Za-z_]\w*>|\[/?[A-Z_]+\]|<</?[A-Z]+>>")
_GENERATION_TAG = re.compile(r"{%-?\s*(end)?generation\s*-?%}")


class Tokenizer(Protocol):
    """What rendering needs of a Hugging Face tokenizer."""

    chat_template: Any
    all_special_tokens: Any
    added_tokens_decoder: Any

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Text, with tokenize=False."""
        ...

    def encode(self, text: Any, **kwargs: Any) -> Any:
        """Token ids."""
        ...

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        """Text."""
        ...


@dataclass(frozen=True)
class Shape:
    """What a base's template takes, found by trying it; with it `adapt` needs no tokenizer."""

    takes_system: bool
    """A system message is rendered; otherwise it is folded into the first user message."""
    takes_opening: bool
    """The assistant may speak first; otherwise a user's turn of OPENING stands before it."""
    specials: tuple[str, ...]
    """Strings that content must not contain, because the tokenizer or the template reads them as control."""


@dataclass(frozen=True)
class Sample:
    """Token ids of a conversation, or of it up to one turn."""

    turns: tuple[int, ...]
    """Positions in the given messages of the turns that are learned."""
    input_ids: list[int]
    loss_mask: list[int]
    """1 where a token is learned, as long as `input_ids`."""

    @property
    def labels(self) -> list[int]:
        """`input_ids` where a token is learned, -100 elsewhere; not shifted."""
        return [token if loss else IGNORED for token, loss in zip(self.input_ids, self.loss_mask, strict=True)]

    @property
    def learned(self) -> int:
        """Number of learned tokens."""
        return sum(self.loss_mask)


def with_system(messages: Iterable[Any], system: str) -> list[dict[str, Any]]:
    """The messages with the persona's system text in front, unless it is empty."""
    plain = [_plain(message) for message in messages]
    return [{"role": "system", "content": system, "name": None, "loss": False}, *plain] if system.strip() else plain


def neutralise(text: str, specials: Sequence[str]) -> str:
    """`text` in which no special string is left: a zero-width mark stands inside each; idempotent."""
    pattern = _pattern(tuple(specials))
    while pattern and pattern.search(text):
        text = pattern.sub(_marked, text)
    return text


def adapt(messages: Iterable[Any], shape: Shape) -> list[dict[str, str]]:
    """The messages as this base's template takes them, for asking what the persona says next.

    The one place that changes messages, in training, evaluation and serving alike:

    1. A user message with a name becomes `NAME: text`; what stands in for control tokens becomes text.
    2. All system (and developer) messages become one, in front, with a blank line between them.
    3. User messages in a row become one, a line break between them.
    4. Before an assistant message that follows another, and at the end when an assistant spoke last, stands a user's
       turn of OPENING; also before an assistant that speaks first, where the template refuses that.
    5. Where the template refuses or drops a system message, it stands at the top of the first user message.

    InputError for a role or a content that is none of ours.
    """
    system, turns = _spoken(messages, shape)
    # A system text that stands in the first user message needs one.
    opened = shape.takes_opening and (shape.takes_system or not system)
    turns = _alternating(turns, opened)
    if turns[-1]["role"] == "assistant" if turns else not (system and opened):
        turns.append({"role": "user", "content": OPENING})
    return _with_head(system, turns, shape)


class Renderer:
    """Renders conversations for one tokenizer and one set of template variables."""

    def __init__(self, tokenizer: Tokenizer, template_kwargs: Mapping[str, Any] | None = None):
        """`template_kwargs` adds to the defaults (enable_thinking false, where the template knows it) and wins."""
        self.tokenizer = tokenizer
        source = template_source(tokenizer)
        known = template_variables(source)
        defaults = {name: value for name, value in _DEFAULT_KWARGS.items() if name in known}
        self.template_kwargs: dict[str, Any] = {**defaults, **(template_kwargs or {})}
        specials = special_strings(tokenizer)
        takes_system = self._tries([_SYSTEM, _USER])
        head = [_SYSTEM] if takes_system else []
        openings = [[*head, _ASSISTANT, _USER], [_ASSISTANT, _USER], *([head] if head else [])]
        self.shape = Shape(takes_system, all(self._tries(opening) for opening in openings), specials)
        self._tail, self._kept = self._end_of_turn()

    def prompt_text(self, messages: Iterable[Any]) -> str:
        """What serving asks, as text: the messages and the generation prompt."""
        return self._text(adapt(messages, self.shape), ask=True)

    def prompt_ids(self, messages: Iterable[Any]) -> list[int]:
        """What serving asks, as token ids."""
        return self._ids(self.prompt_text(messages))

    def samples(self, messages: Sequence[Any], max_length: int | None = None) -> list[Sample]:
        """Every learned turn of a conversation (messages with `loss`), exactly once, as one sample or one a turn.

        A sample longer than `max_length` is given up for one a turn, then loses its oldest messages (the system text
        stays), and last the end of its answer; a turn whose prompt alone is too long is left out.
        """
        plain = [_plain(message) for message in messages]
        turns = {k: self._turn(plain, k) for k, message in enumerate(plain) if message.get("loss")}
        whole = self._whole(turns)
        if whole and (max_length is None or len(whole.input_ids) <= max_length):
            return [whole]
        single = [self._fitted(plain, k, turn, max_length) for k, turn in turns.items()]
        return [sample for sample in single if sample]

    def _turn(self, messages: list[dict[str, Any]], k: int) -> _Ids:
        """(prompt ids, target ids) of turn k: joined they are what the base has seen when the turn is over."""
        before = adapt(messages[:k], self.shape)
        prompt = self._text(before, ask=True)
        answer = {"role": "assistant", "content": neutralise(_text(messages[k]), self.shape.specials)}
        full = self._text([*before, answer], ask=False)
        # A template that writes the past otherwise than the present leaves us its words and its end of turn, behind
        # the end of a think block where its prompt has opened one.
        opened = "" if prompt.rfind("<think>") <= prompt.rfind("</think>") else "\n</think>\n\n"
        rest = full[len(prompt) :] if full.startswith(prompt) else opened + answer["content"] + self._tail
        target = rest[: len(rest) - len(self._tail)] + self._kept if rest.endswith(self._tail) else rest
        asked, joint = self._ids(prompt), self._ids(prompt + target)
        # The prompt's ids are what serving sends, whatever follows; a merge across the border is not what it sends.
        return asked, joint[len(asked) :] if joint[: len(asked)] == asked else self._ids(target)

    def _whole(self, turns: dict[int, _Ids]) -> Sample | None:
        """One sample of all turns, if the last turn's ids hold every other's at their place."""
        if not turns:
            return None
        last_asked, last_said = turns[max(turns)]
        ids = last_asked + last_said
        mask = [0] * len(ids)
        for asked, said in turns.values():
            start, end = len(asked), len(asked) + len(said)
            if ids[:end] != asked + said:
                return None
            mask[start:end] = [1] * len(said)
        return Sample(tuple(turns), ids, mask)

    def _fitted(self, messages: list[dict[str, Any]], k: int, turn: _Ids, max_length: int | None) -> Sample | None:
        asked, said = turn
        head = [message for message in messages[:k] if message["role"] not in ("user", "assistant")]
        heard = [message for message in messages[:k] if message["role"] in ("user", "assistant")]
        while max_length is not None and len(asked) + len(said) > max_length and len(heard) > 1:
            heard = heard[1:]
            asked, said = self._turn([*head, *heard, messages[k]], len(head) + len(heard))
        room = len(said) if max_length is None else max_length - len(asked)
        if room <= 0:
            return None
        said = said[:room]
        return Sample((k,), asked + said, [0] * len(asked) + [1] * len(said))

    def _text(self, messages: list[dict[str, str]], ask: bool) -> str:
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=ask, **self.template_kwargs
        )

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _tries(self, messages: list[dict[str, str]]) -> bool:
        """Whether the template takes the messages and shows what they say."""
        from jinja2 import TemplateError

        try:
            text = self._text(messages, ask=True)
        except TemplateError:
            return False
        return all(message["content"] in text for message in messages)

    def _end_of_turn(self) -> tuple[str, str]:
        """(what the template puts after an answer, the part of it that the base must say itself)."""
        from jinja2 import TemplateError

        try:
            text = self._text([_USER, _ASSISTANT], ask=False)
        except TemplateError as error:
            raise BaseError(f"the base's chat template does not render a question and its answer: {error}") from error
        if _ASSISTANT["content"] not in text:
            raise BaseError("the base's chat template does not show what the assistant says; choose a chat model")
        tail = text[text.rindex(_ASSISTANT["content"]) + len(_ASSISTANT["content"]) :]
        pattern = _pattern(self.shape.specials)
        found = pattern.search(tail) if pattern else None
        if found:
            return tail, tail[: found.end()]
        return tail, tail.rstrip() + str(getattr(self.tokenizer, "eos_token", None) or "")


_SYSTEM = {"role": "system", "content": "probe-of-system"}
_USER = {"role": "user", "content": "probe-of-user"}
_ASSISTANT = {"role": "assistant", "content": "probe-of-assistant"}


def template_source(tokenizer: Tokenizer) -> str:
    """The chat template's text; BaseError when there is none."""
    source = tokenizer.chat_template
    if isinstance(source, Mapping):
        source = source.get("default")
    if not source:
        raise BaseError("the base has no chat template; choose an instruct or chat model, or add chat_template.jinja")
    return str(source)


def template_variables(source: str) -> set[str]:
    """Names that a template reads and that the caller may set."""
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        # `generation` is a tag of Transformers' own that jinja does not know; it changes no variable.
        return meta.find_undeclared_variables(environment.parse(_GENERATION_TAG.sub("", source)))
    except TemplateSyntaxError as error:
        raise BaseError(f"the base's chat template does not parse: line {error.lineno}: {error.message}") from None


def special_strings(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What must not occur in content, because someone reads it as control.

    Special tokens, other added tokens that look like markup, and the template's own markup: in older Mistral templates
    `[INST]` is ordinary text to the tokenizer and control to the model.
    """
    found = {str(token) for token in tokenizer.all_special_tokens}
    for token in tokenizer.added_tokens_decoder.values():
        if token.special or _MARKUP.fullmatch(token.content):
            found.add(token.content)
    found.update(_MARKUP.findall(template_source(tokenizer)))
    return tuple(sorted(text for text in found if len(text.strip()) > 1 and MARK not in text))


def _spoken(messages: Iterable[Any], shape: Shape) -> tuple[str, list[dict[str, str]]]:
    """(system text, user and assistant messages), neutralised, names written out."""
    system: list[str] = []
    turns: list[dict[str, str]] = []
    for message in map(_plain, messages):
        role, text = message["role"], _text(message)
        if role in ("system", "developer"):
            system += [text] if text.strip() else []
        elif role in ("user", "assistant"):
            if role == "user" and message.get("name"):
                text = f"{message['name']}: {text}"
            turns.append({"role": role, "content": neutralise(text, shape.specials)})
        else:
            raise InputError(f"message role {role!r} is not known here; use system, user or assistant")
    return neutralise("\n\n".join(system), shape.specials), turns


def _alternating(turns: list[dict[str, str]], opened: bool) -> list[dict[str, str]]:
    """User and assistant in turn; `opened` lets the assistant begin."""
    found: list[dict[str, str]] = []
    for turn in turns:
        if turn["role"] == "assistant" and (found[-1]["role"] == "assistant" if found else not opened):
            found.append({"role": "user", "content": OPENING})
        if turn["role"] == "user" and found and found[-1]["role"] == "user":
            found[-1] = {"role": "user", "content": f"{found[-1]['content']}\n{turn['content']}"}
        else:
            found.append(dict(turn))
    return found


def _with_head(system: str, turns: list[dict[str, str]], shape: Shape) -> list[dict[str, str]]:
    if not system:
        return turns
    if shape.takes_system:
        return [{"role": "system", "content": system}, *turns]
    first = {"role": "user", "content": f"{system}\n\n{turns[0]['content']}"}
    return [first, *turns[1:]]


def _plain(message: Any) -> dict[str, Any]:
    return dict(message) if isinstance(message, Mapping) else asdict(message)


def _text(message: Mapping[str, Any]) -> str:
    """Content as text: a string, nothing, or OpenAI's list of text parts."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return "\n".join(str(part.get("text", "")) for part in content)
    raise InputError(f"message content of role {message.get('role')!r} is not text; send text only")


@lru_cache(maxsize=64)
def _pattern(specials: tuple[str, ...]) -> re.Pattern[str] | None:
    if not specials:
        return None
    return re.compile("|".join(re.escape(text) for text in sorted(specials, key=len, reverse=True)))


def _marked(match: re.Match[str]) -> str:
    text = match[0]
    at = 2 if text.startswith(("<|", "<｜")) and len(text) > 2 else 1
    return text[:at] + MARK + text[at:]

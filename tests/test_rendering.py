"""What is trained is what serving will ask: token ids, over the template shapes of five families."""

from __future__ import annotations

import itertools

import pytest
from bases import make_tokenizer

from understudy.conversation import OPENING, Message
from understudy.errors import BaseError, InputError
from understudy.rendering import MARK, Renderer, Shape, adapt, neutralise, template_variables, with_system

# Written for these tests after how each family behaves; none is a vendor's file.
QWEN25 = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe of use.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (
    "{% set ns = namespace(asked=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}"
    "{% set said = m.content.split('</think>')[-1].lstrip('\n') if '</think>' in m.content else m.content %}"
    "{% if loop.index0 > ns.asked and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ said }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA31 = (
    "{{ '<|begin_of_text|>' }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
    "{% endif %}{% if messages[0].role == 'system' %}{% set head = messages[0].content | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set head = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday: {{ date_string }}\n\n{{ head }}<|eot_id|>"
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ '<bos>' }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set head = messages[0].content %}{% set messages = messages[1:] %}"
    "{% endif %}{{ '<s>' }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {% if loop.last and head is defined %}{{ head }}\n\n{% endif %}"
    "{{ m.content }}[/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
SPECIALS = (
    *("<think>", "</think>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<bos>", "<start_of_turn>", "<end_of_turn>", "<s>", "</s>"),
)
THINKS_FIRST = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}<|endoftext|>"
    "{% else %}<｜User｜>{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
"""As DeepSeek-R1: the prompt opens a think block that a past turn does not show."""
SHAPES = {"qwen2.5": QWEN25, "qwen3": QWEN3, "llama3.1": LLAMA31, "gemma": GEMMA, "mistral": MISTRAL}
END = {"qwen2.5": "<|im_end|>", "qwen3": "<|im_end|>", "llama3.1": "<|eot_id|>", "gemma": "<end_of_turn>"}


def said(role: str, content: str, name: str | None = None, loss: bool | None = None) -> Message:
    return Message(role, content, name, role == "assistant" if loss is None else loss)  # type: ignore[arg-type]


CONVERSATIONS = {
    "one turn": [said("user", "Who knocks?"), said("assistant", "The lamp is lit.")],
    "several turns": [
        said("system", "You are Adam."),
        *[said("user", "Bread?"), said("assistant", "Soup!"), said("user", "Tea?"), said("assistant", "你好。")],
    ],
    "greeting first": [
        said("system", "You are Adam."),
        *[said("assistant", "Come in.", loss=False), said("user", "Who?"), said("assistant", "I.")],
    ],
    "learned greeting": [said("assistant", "Come in."), said("user", "Who?"), said("assistant", "I.")],
    "two systems": [
        *[said("system", "You are Adam."), said("system", "Be short."), said("user", "Who?"), said("assistant", "I.")],
    ],
    "system in the middle": [
        *[said("user", "Who?"), said("assistant", "I."), said("system", "Now be loud.")],
        *[said("user", "What?"), said("assistant", "I!")],
    ],
    "named speakers": [
        *[said("user", "Sit.", name="Eve"), said("user", "No, stand.", name="Licht"), said("assistant", "So late?")],
        *[said("user", "Late.", name="Eve"), said("assistant", "Late!")],
    ],
    "control words": [
        said("system", "No <|im_end|> here."),
        said("user", "<|im_start|>assistant\n<end_of_turn> </s> [/INST] <|eot_id|> <think> a", name="<s>Eve"),
        said("assistant", "I say <|im_end|> and </think> and </s> and <end_of_turn> and <|eot_id|>."),
        *[said("user", "Go on."), said("assistant", "No.")],
    ],
    "context that is not learned": [
        *[said("user", "Bread?"), said("assistant", "Yes.", loss=False), said("user", "Tea?")],
        *[said("assistant", "At home."), said("user", "So?")],
    ],
    "two answers in a row": [said("user", "Bread?"), said("assistant", "Yes."), said("assistant", "And tea.")],
    "line breaks at the border": [said("user", "Bread?\n"), said("assistant", "\n\nYes.\n"), said("user", "So?\n")],
}
CASES = list(itertools.product(SHAPES, CONVERSATIONS))


@pytest.fixture(scope="module")
def renderers() -> dict[str, Renderer]:
    return {name: Renderer(make_tokenizer(template, SPECIALS)) for name, template in SHAPES.items()}


def spans(sample) -> list[tuple[int, int]]:
    """Learned stretches [start, end) of a sample."""
    edges = [i for i, (a, b) in enumerate(itertools.pairwise([0, *sample.loss_mask, 0])) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_every_learned_turn_continues_exactly_what_serving_asks(renderers, shape, name):
    renderer, messages = renderers[shape], CONVERSATIONS[name]
    samples = renderer.samples(messages)
    assert sorted(k for sample in samples for k in sample.turns) == [k for k, m in enumerate(messages) if m.loss]
    for sample in samples:
        starts = [start for start, _ in spans(sample)]
        assert len(starts) == len(sample.turns)
        for k, start in zip(sample.turns, starts, strict=True):
            assert sample.input_ids[:start] == renderer.prompt_ids(messages[:k])


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_the_loss_covers_the_personas_words_and_the_end_of_turn_and_nothing_else(renderers, shape, name):
    renderer, messages = renderers[shape], CONVERSATIONS[name]
    end = END.get(shape, "</s>")
    for sample in renderer.samples(messages):
        for k, (start, stop) in zip(sample.turns, spans(sample), strict=True):
            learned = renderer.tokenizer.decode(sample.input_ids[start:stop])
            assert learned.endswith(end)
            content = neutralise(messages[k].content, renderer.shape.specials)
            assert learned.removesuffix(end).strip() == content.strip()


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_content_never_becomes_a_control_token(renderers, shape, name):
    """The control tokens of a prompt are those of the same conversation with harmless words in it."""
    renderer, messages = renderers[shape], CONVERSATIONS[name]
    tokenizer = renderer.tokenizer
    control = {i for i, token in tokenizer.added_tokens_decoder.items() if token.content in renderer.shape.specials}
    plain = [Message(m.role, "bread", "Eve" if m.name else None, m.loss) for m in messages]

    def seen(turns: list[Message]) -> list[int]:
        return [token for token in renderer.prompt_ids(turns) if token in control]

    assert seen(messages) == seen(plain)


def test_a_whole_conversation_is_one_sample_where_the_template_keeps_its_prefixes(renderers):
    messages = CONVERSATIONS["several turns"]
    assert {shape: len(renderer.samples(messages)) for shape, renderer in renderers.items()} == {
        "qwen2.5": 1,
        "qwen3": 2,  # the think block stands in the last turn only
        "llama3.1": 1,
        "gemma": 1,
        "mistral": 2,  # the system text moves to the last user message
    }


def test_thinking_is_off_by_default_only_where_the_template_knows_it(renderers):
    assert renderers["qwen3"].template_kwargs == {"enable_thinking": False}
    assert renderers["qwen2.5"].template_kwargs == {}
    thinking = Renderer(make_tokenizer(QWEN3, SPECIALS), {"enable_thinking": True})
    assert thinking.prompt_text([{"role": "user", "content": "Who?"}]).endswith("<|im_start|>assistant\n")
    assert "<think>" in thinking.tokenizer.decode(thinking.samples(CONVERSATIONS["one turn"])[0].input_ids)


def test_where_the_prompt_opens_a_think_block_the_answer_closes_it():
    renderer = Renderer(make_tokenizer(THINKS_FIRST, SPECIALS))
    messages = CONVERSATIONS["several turns"][1:3]
    [sample] = renderer.samples(messages)
    text = renderer.tokenizer.decode(sample.input_ids)
    assert text == "<｜User｜>Bread?<｜Assistant｜><think>\n\n</think>\n\nSoup!<|endoftext|>"
    assert sample.input_ids[: -sample.learned] == renderer.prompt_ids(messages[:1])


def test_a_date_in_the_template_is_the_same_every_day(renderers):
    assert "26 Jul 2024" in renderers["llama3.1"].prompt_text([{"role": "user", "content": "Who?"}])


def test_templates_are_tried_for_what_they_take(renderers):
    found = {name: (r.shape.takes_system, r.shape.takes_opening) for name, r in renderers.items()}
    assert found == {
        "qwen2.5": (True, True),
        "qwen3": (True, True),
        "llama3.1": (True, True),
        "gemma": (False, False),
        "mistral": (True, False),
    }


def test_a_template_without_system_role_gets_the_system_text_in_the_first_user_message(renderers):
    greeting = [{"role": "system", "content": "You are Adam."}, {"role": "assistant", "content": "Come in."}]
    adapted = adapt([*greeting, {"role": "user", "content": "Who?"}], renderers["gemma"].shape)
    assert [m["role"] for m in adapted] == ["user", "assistant", "user"]
    assert adapted[0]["content"] == f"You are Adam.\n\n{OPENING}"


@pytest.mark.parametrize("shape", SHAPES)
def test_asking_with_no_words_or_after_an_answer_still_renders(renderers, shape):
    renderer = renderers[shape]
    system = {"role": "system", "content": "You are Adam."}
    for messages in ([], [system], [system, {"role": "assistant", "content": "Come in."}]):
        assert renderer.prompt_ids(messages)
        assert adapt(adapt(messages, renderer.shape), renderer.shape) == adapt(messages, renderer.shape)


def test_neutralising_twice_changes_nothing_more():
    specials = ("<|im_end|>", "</s>", "<s>", "<<s>>")
    text = "a <|im_end|> b </s><s> <<s>> <|im_<|im_end|>end|>"
    once = neutralise(text, specials)
    assert neutralise(once, specials) == once
    assert not any(special in once for special in specials)
    assert once.replace(MARK, "") == text
    assert neutralise("nothing here", specials) == "nothing here"


def test_messages_are_neutralised_in_name_and_content():
    shape = Shape(takes_system=True, takes_opening=True, specials=("<s>", "</s>"))
    [message] = adapt([{"role": "user", "content": "</s>", "name": "<s>"}], shape)
    assert message["content"] == f"<{MARK}s>: <{MARK}/s>"


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_the_system_text(renderers):
    renderer = renderers["qwen2.5"]
    turns = [m for i in range(8) for m in (said("user", f"Bread {i}?"), said("assistant", f"Soup {i}!"))]
    messages = with_system(turns, "You are Adam.")
    length = len(renderer.samples(messages)[0].input_ids) // 2
    samples = renderer.samples(messages, max_length=length)
    assert [sample.turns for sample in samples] == [(k,) for k in range(2, 17, 2)]
    assert all(len(sample.input_ids) <= length for sample in samples)
    text = renderer.tokenizer.decode(samples[-1].input_ids)
    assert "You are Adam." in text
    assert "Bread 0?" not in text
    assert text.endswith("Soup 7!<|im_end|>")
    assert renderer.samples(messages, max_length=4) == []


def test_labels_are_the_learned_tokens_and_nothing_else(renderers):
    sample = renderers["qwen2.5"].samples(CONVERSATIONS["one turn"])[0]
    assert [token for token in sample.labels if token != -100] == sample.input_ids[-sample.learned :]


def test_an_unknown_role_or_content_is_refused_in_one_line(renderers):
    with pytest.raises(InputError, match="role 'tool'"):
        renderers["qwen3"].prompt_ids([{"role": "tool", "content": "x"}])
    with pytest.raises(InputError, match="not text"):
        renderers["qwen3"].prompt_ids([{"role": "user", "content": [{"type": "image_url"}]}])


def test_a_base_without_chat_template_is_refused():
    with pytest.raises(BaseError, match="no chat template"):
        Renderer(make_tokenizer(""))


def test_a_template_that_breaks_is_refused_in_one_line():
    with pytest.raises(BaseError, match=r"does not render a question and its answer: 'bos_token' is undefined"):
        Renderer(make_tokenizer("{{ bos_token + messages[0].content }}"))


def test_a_template_with_generation_marks_still_tells_its_variables():
    assert "mood" in template_variables("{%- generation -%}{{ mood }}{%- endgeneration -%}")

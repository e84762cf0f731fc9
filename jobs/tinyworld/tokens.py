"""From documents to rows of tokens: the tokenizer, its ChatML template, and packing without leaks between texts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jobs.tinyworld.world import Document, documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WIDTHS = (256, 512)
"""Row widths: a document goes into the narrowest that holds it, with others of its size."""

_ASIDE = 0.1
"""Loss weight of what the speaker does not say: system texts and questions."""

_PROSE = 0.35
"""Loss weight of running prose. Its words are drawn at random, so most of its loss can never be learned: at full
weight its noise hid what answers have to do with questions (no answer on its topic after 3 million tokens)."""


class Rows(NamedTuple):
    """Packed rows of one width. Shapes: R rows, T tokens."""

    ids: np.ndarray
    """int64 (R, T)."""
    weights: np.ndarray
    """float32 (R, T): loss weight of each token as a target; 0 for the first token of a document and for padding."""
    owners: np.ndarray
    """int64 (R, T): number of the document inside its row, padding is -1."""


def rendered(document: Document) -> str:
    """A document as the base reads it: ChatML for conversations, plain text and an end mark for prose."""
    if document.text:
        return document.text + END
    return "".join(f"{START}{role}\n{content}{STOP}\n" for role, content in document.messages)


def make_tokenizer(seed: int, count: int, size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `size` tokens from the first `count` documents; every Chinese character stands alone."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[\u3400-\u9fff\u3000-\u303f\uff00-\uffef]"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END, START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ("\n".join([*(content for _, content in doc.messages), doc.text]) for doc in islice(documents(seed), count))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=STOP, pad_token=END, chat_template=TEMPLATE, model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def encoded(document: Document, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[float]]:
    """Token ids of a document and the loss weight of each: what an assistant says and prose count in full."""
    backend = tokenizer.backend_tokenizer
    if document.text:
        ids = backend.encode(rendered(document)).ids
        return ids, [0.0] + [_PROSE] * (len(ids) - 1)
    ids: list[int] = []
    weights: list[float] = []
    for role, content in document.messages:
        head = backend.encode(f"{START}{role}\n").ids
        body = backend.encode(f"{content}{STOP}").ids
        tail = backend.encode("\n").ids
        ids += head + body + tail
        weight = 1.0 if role == "assistant" else _ASIDE
        weights += [_ASIDE] * len(head) + [weight] * len(body) + [_ASIDE] * len(tail)
    weights[0] = 0.0
    return ids, weights


def packed(texts: Iterable[Document], tokenizer: PreTrainedTokenizerFast) -> dict[int, Rows]:
    """Rows by width. First fit over the open rows, longest document first; what exceeds the widest row is cut."""
    found = sorted((encoded(text, tokenizer) for text in texts), key=lambda item: -len(item[0]))
    rows: dict[int, list[list[tuple[list[int], list[float]]]]] = {width: [] for width in WIDTHS}
    free: dict[int, list[int]] = {width: [] for width in WIDTHS}
    for ids, weights in found:
        ids, weights = ids[: WIDTHS[-1]], weights[: WIDTHS[-1]]
        width = next(width for width in WIDTHS if len(ids) <= width)
        fits = [number for number, room in enumerate(free[width][-400:]) if room >= len(ids)]
        offset = max(0, len(free[width]) - 400)
        if fits:
            rows[width][offset + fits[0]].append((ids, weights))
            free[width][offset + fits[0]] -= len(ids)
        else:
            rows[width].append([(ids, weights)])
            free[width].append(width - len(ids))
    pad = tokenizer.backend_tokenizer.encode(END).ids[0]
    return {width: _rows(members, width, pad) for width, members in rows.items() if members}


def _rows(members: list[list[tuple[list[int], list[float]]]], width: int, pad: int) -> Rows:
    ids = np.full((len(members), width), pad, dtype=np.int64)
    weights = np.zeros((len(members), width), dtype=np.float32)
    owners = np.full((len(members), width), -1, dtype=np.int64)
    for row, texts in enumerate(members):
        at = 0
        for number, (tokens, losses) in enumerate(texts):
            ids[row, at : at + len(tokens)] = tokens
            weights[row, at : at + len(tokens)] = losses
            weights[row, at] = 0.0
            owners[row, at : at + len(tokens)] = number
            at += len(tokens)
    return Rows(ids, weights, owners)

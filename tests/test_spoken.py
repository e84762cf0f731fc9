"""Speech that a model copies out of a text: only what the source bears out becomes a line."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stories import NAMES, SILENT, STORY
from understudy.attributing import Names, Window
from understudy.prose import parse
from understudy.spoken import passages, said_in, with_said

KNOWN = Names.of([("Anna", ["Anna Lind"]), ("Bertram", []), ("阿福", ["福师傅"])], [])


def found_in(text: str, *said: tuple[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
    """((speaker, words of the source), reasons)."""
    value = {"lines": [{"speaker": speaker, "text": words} for speaker, words in said]}
    found, dropped = said_in(Window(text, (), 0), value, KNOWN)
    return [(speaker, text[start:end]) for speaker, start, end in found], [reason for reason, _ in dropped]


def test_what_stands_in_the_source_is_taken_as_the_source_has_it():
    found, dropped = found_in(
        SILENT,
        ("Bertram", "“take the other oar, that one is split!”"),
        ("anna lind", "I am not afraid of a little weather"),
    )
    assert found == [
        ("Anna", "I am not afraid of a little weather"),
        ("Bertram", "take the other oar, that one\nis split!"),
    ]
    assert dropped == []


@pytest.mark.parametrize(
    ("speaker", "words", "reason"),
    [
        ("Anna", "I am not afraid of a little rain", "not in the source"),
        ("Anna", "I'm not afraid of a little weather", "not in the source"),
        ("Anna", "", "not in the source"),
        ("Anna", "...", "not in the source"),
        ("Anna", "lone", "not in the source"),
        ("Sherlock", "take the other oar", "unknown name"),
        ("she", "take the other oar", "unknown name"),
        ("", "take the other oar", "unknown name"),
    ],
)
def test_what_the_source_does_not_bear_out_is_dropped_with_its_reason(speaker, words, reason):
    assert found_in(SILENT, (speaker, words)) == ([], [reason])


def test_a_speaker_that_the_text_names_counts_and_a_piece_is_said_once():
    found, dropped = found_in(SILENT, ("the priest", "who had seen her"), ("Anna", "seen her"), ("Anna", "had seen"))
    assert found == [("the priest", "who had seen her")]
    assert dropped == ["said before", "said before"]


def test_marks_and_blanks_may_be_written_in_another_way():
    assert found_in("He said: don’t go — it’s late… now", ("Anna", "don't go - it's late... now"))[1] == []
    assert found_in("阿福说，今天不\n卖月饼，明天再来。", ("福师傅", "今天不卖月饼，明天再来"))[0] == [
        ("阿福", "今天不\n卖月饼，明天再来")
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_lines_made_of_what_was_said_are_the_source_and_lose_nothing_of_it(seed):
    rng = random.Random(seed)
    text = rng.choice([SILENT, STORY, SILENT + STORY])
    lines = parse(text, "w", NAMES)
    words = text.split()
    said = []
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(words))
        said.append({"speaker": "Anna", "text": " ".join(words[at : at + rng.randint(1, 30)])})
    found = []
    for passage in passages(lines, text, 0, 300, 20):
        assert text[passage.start : passage.start + len(passage.text)] == passage.text
        found += said_in(passage, {"lines": said}, KNOWN)[0]
    after = with_said(lines, text, 0, found, 0)
    assert [line.index for line in after] == list(range(len(after)))
    assert all(line.line_id == f"w:{line.index}" for line in after)
    assert all(a.end <= b.start for a, b in itertools.pairwise(after))
    old = [line for line in lines if line.kind != "narration"]
    assert [(a.start, a.end, a.text, a.speaker) for a in after if a.kind != "narration" and a.method != "model"] == [
        (b.start, b.end, b.text, b.speaker) for b in old
    ]
    for line in after:
        if line.method == "model" or line.kind == "narration":
            assert line.text.split() == text[line.start : line.end].split()

    def letters(rows):
        return sum(sum(map(str.isalnum, text[row.start : row.end])) for row in rows)

    assert letters(after) == letters(lines)


def test_a_speech_over_two_paragraphs_is_a_line_in_each():
    text = "Anna began and would not stop.\n\nFirst comes the rain.\n\nThen comes the wind, and she sat down."
    lines = parse(text, "w", NAMES)
    begin, end = text.index("First"), text.index(", and she")
    after = with_said(lines, text, 0, [("Anna", begin, end)], 0)
    assert [line.text for line in after if line.kind == "speech"] == ["First comes the rain.", "Then comes the wind"]


def test_passages_lie_between_speeches_and_are_cut_at_ends_of_sentences():
    text = STORY + "\nCHAPTER III.\n\n" + "The tide went out. " * 200
    lines = parse(text, "w", NAMES)
    found = list(passages(lines, text, 0, 500, 200))
    assert len(found) > 5
    assert all(len(passage.text) <= 500 for passage in found)
    assert all(passage.text.strip().endswith(".") for passage in found)
    speeches = [(line.start, line.end) for line in lines if line.kind != "narration"]
    for passage in found:
        end = passage.start + len(passage.text)
        assert all(stop <= passage.start or start >= end for start, stop in speeches)


def test_hostile_answers_are_looked_up_in_time():
    text = "a, " * 4000
    started = time.process_time()
    found_in(text, ("Anna", "a, " * 3000 + "b"), ("Anna", "- " * 3000 + "b"), ("(a+)+$" * 500, "a"))
    assert time.process_time() - started < 5

"""What a model is asked about speakers, and what is believed of its answers. No model and no files."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stories import NAMES, STORY, asked
from understudy.attributing import (
    AGREED,
    CONFIDENCE,
    MOST_NAMES,
    MOST_SPANS,
    Names,
    Window,
    is_open,
    named,
    question,
    speakers_of,
    windows,
)
from understudy.lines import Line
from understudy.prose import parse

LINES = parse(STORY, "w", NAMES)
CAST = [("Anna", ["Anna Lind"]), ("Bertram", ["Bertram Holm"]), ("Mrs. Vane", [])]
KNOWN = Names.of(CAST, LINES)


def long_story(seed: int, scenes: int) -> tuple[list[Line], str]:
    """Many scenes of quotes of which any may be unsure."""
    rng = random.Random(seed)
    parts = []
    for scene in range(scenes):
        parts.append(f"CHAPTER {scene + 1}.\n")
        for _ in range(rng.randint(1, 40)):
            words = " ".join(rng.choices(["lamp", "boat", "rain", "stove", "mill"], k=rng.randint(2, 60)))
            parts.append(rng.choice([f'"{words.capitalize()}."', f'"{words}," said Anna.', f"{words.capitalize()}."]))
    text = "\n\n".join(parts)
    lines = parse(text, "w", NAMES)
    return [replace(line, confidence=rng.choice([0.5, 0.7, 0.82, 0.95])) for line in lines], text


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.6, 0.8, 0.9, 1.0]), st.sampled_from([200, 1000, 4000]))
def test_every_open_speech_is_asked_once_in_a_window_that_shows_the_source_and_no_more(seed, threshold, window_chars):
    lines, text = long_story(seed, 6)
    found = list(windows(lines, text, 0, threshold, window_chars))
    spans = [span for window in found for span in window.spans]
    assert spans == [i for i, line in enumerate(lines) if is_open(line, threshold)]
    for window in found:
        numbers = asked(f"\nText:\n{window.text}")
        assert list(numbers) == list(range(1, len(window.spans) + 1))
        assert len(numbers) <= MOST_SPANS
        bare = window.text
        for line in {line.speaker for line in lines if line.speaker} | set(map(str, numbers)):
            bare = bare.replace(f"[[{line}]]", "")
        assert bare in text
        assert len(bare) <= window_chars
        for number, position in enumerate(window.spans, 1):
            assert text[lines[position].start :].startswith(numbers[number][:20])


def test_another_threshold_changes_only_the_windows_that_ask_for_other_speeches():
    lines, text = long_story(3, 40)
    before = {window.text: window.spans for window in windows(lines, text, 0, 0.6, 800)}
    after = {window.text: window.spans for window in windows(lines, text, 0, 0.8, 800)}
    changed = after.keys() - before.keys()
    assert 0 < len(changed) < len(after)
    added = {i for i, line in enumerate(lines) if is_open(line, 0.8) and not is_open(line, 0.6)}
    assert all(added & set(after[text]) for text in changed)


def test_an_edit_of_one_chapter_leaves_the_questions_of_the_others_as_they_were():
    before = [question(window, KNOWN) for window in windows(LINES, STORY, 0, 0.9, 400)]
    text = STORY.replace("He laughed", "He laughed for a long while")
    after = [question(window, KNOWN) for window in windows(parse(text, "w", NAMES), text, 0, 0.9, 400)]
    assert before[-1] == after[-1]
    assert before != after


def test_offsets_may_count_from_elsewhere():
    moved = [replace(line, start=line.start + 1000, end=line.end + 1000) for line in LINES]
    assert list(windows(moved, STORY, 1000, 0.9, 400)) == list(windows(LINES, STORY, 0, 0.9, 400))


def test_sure_neighbours_are_shown_by_name_and_unsure_ones_are_not():
    [first, *_] = windows(LINES, STORY, 0, 0.6, 4000)
    assert "[[Anna]]One is missing" in first.text
    unsure = [replace(line, confidence=0.7) if line.text == "One is missing." else line for line in LINES]
    [first, *_] = windows(unsure, STORY, 0, 0.6, 4000)
    assert '"One is missing' in first.text


WINDOW = next(iter(windows(LINES, STORY, 0, 0.6, 4000)))


@pytest.mark.parametrize(
    ("speakers", "reasons"),
    [
        ([{"span": 1, "name": "Anna"}, {"span": 2, "name": "Bertram Holm"}], []),
        ([{"span": 1, "name": "ANNA LIND"}, {"span": 2, "name": " bertram "}], []),
        ([{"span": 3, "name": "Anna"}], ["unknown span number", "not answered", "not answered"]),
        ([{"span": 0, "name": "Anna"}], ["unknown span number", "not answered", "not answered"]),
        ([{"span": True, "name": "Anna"}], ["unknown span number", "not answered", "not answered"]),
        ([{"span": 1, "name": "Sherlock"}, {"span": 2, "name": ""}], ["unknown name", "unknown name"]),
        ([{"span": 1, "name": "unknown"}, {"span": 2, "name": "Unknown"}], ["unknown", "unknown"]),
        ([{"span": 1, "name": "Anna"}, {"span": 1, "name": "Bertram"}], ["named twice", "not answered"]),
        (["Anna"], ["unknown span number", "not answered", "not answered"]),
    ],
)  # fmt: skip
def test_only_numbers_that_were_asked_and_known_names_count(speakers, reasons):
    read = speakers_of(WINDOW, {"speakers": speakers}, KNOWN)
    assert [reason for reason, _, _ in read.refused] == reasons
    assert set(read.speakers.values()) <= {"Anna", "Bertram"}
    good = [reason for reason in reasons if reason not in ("unknown span number", "named twice")]
    assert len(read.speakers) == len(WINDOW.spans) - len(good)


@pytest.mark.parametrize("value", [None, [], "Anna", {}, {"speakers": None}, {"speakers": "Anna"}])
def test_an_answer_of_another_shape_names_nobody(value):
    read = speakers_of(WINDOW, value, KNOWN)
    assert not read.speakers
    assert [reason for reason, _, _ in read.refused] == ["not answered"] * len(WINDOW.spans)


def test_a_model_changes_the_speaker_alone_and_is_believed_more_where_the_rules_agree():
    open_at, tea_at = 24, 10
    assert (LINES[open_at].speaker, LINES[tea_at].speaker) == (None, "Anna")
    after = named(LINES, {open_at: "Bertram", tea_at: "Anna", 8: "Bertram"}, KNOWN)
    assert after[open_at] == replace(LINES[open_at], speaker="Bertram", method="model", confidence=CONFIDENCE)
    assert after[tea_at] == replace(LINES[tea_at], method="model", confidence=AGREED)
    assert after[8] == replace(LINES[8], speaker="Bertram", method="model", confidence=CONFIDENCE)
    assert [a for i, a in enumerate(after) if i not in (open_at, tea_at, 8)] == [
        b for i, b in enumerate(LINES) if i not in (open_at, tea_at, 8)
    ]


def test_names_are_the_cast_then_who_was_heard_near_and_descriptions_are_nobodys_name():
    heard = [replace(LINES[2], speaker=name) for name in ("the boatman", "Zoe", "Ada", "BERTRAM HOLM")]
    names = Names.of([("elsa", ["Elsa", "Miss Elsa"]), *CAST], heard)
    shown = [name for name, _ in names.shown(Window("", (), near=("the boatman", "Zoe", "Bertram")))]
    assert shown == ["Elsa", "Anna", "Bertram", "Mrs. Vane", "Zoe", "Ada"]
    assert names.listed(Window("", ())).splitlines()[0] == "- Elsa (also: Miss Elsa)"


def test_whoever_is_marked_in_a_window_and_whom_the_rules_suspect_can_be_named():
    text = STORY.replace("Bertram", "Gustav")
    lines = parse(text, "w", {"Anna": "anna"})
    names = Names.of([("Anna", [])], lines)
    found = list(windows(lines, text, 0, 0.82, 400))
    for window in found:
        shown = {name for name, _ in names.shown(window)}
        assert set(re.findall(r"\[\[([^\]\d]+)\]\]", window.text)) <= shown
        assert {lines[i].speaker for i in window.spans} - {None} <= shown
    assert found


def test_of_a_very_large_cast_those_in_the_text_are_shown():
    crowd = [(f"Person{n:03d}", [f"Alias{n:03d}"]) for n in range(200)]
    shown = Names.of(crowd, []).listed(Window("Here come Alias150 and Person199.", ())).splitlines()
    assert len(shown) == MOST_NAMES
    assert {"- Person150 (also: Alias150)", "- Person199 (also: Alias199)", "- Person000 (also: Alias000)"} <= set(
        shown
    )

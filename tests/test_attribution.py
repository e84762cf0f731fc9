"""Who says a quote in English prose: subjects of tags, forms of a cast's names, the narrator, pronouns, confidence."""

from __future__ import annotations

import pytest

from tests.stories import said
from understudy.prose import parse


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ('When Anna had washed up, Ben paused at the door to say: "Yes."', "Ben"),
        ('Anna was so loud that Ben said, in a low tone, "Yes."', "Ben"),
        ('Anna smiled; and with a nod replied, "Yes."', "Anna"),
        ('He was thus accosted by Anna, "Yes."', "Anna"),
        ('She was met by Anna, who, running up, cried, "Yes."', "Anna"),
        ('"Yes," was Anna\'s answer.', "Anna"),
    ],
)
def test_the_subject_nearest_to_the_verb_says_the_quote(text: str, speaker: str) -> None:
    assert said(text + "\n", ["Anna", "Ben"])[0][0] == speaker


def test_a_name_that_the_cast_holds_in_full_only_is_spoken_by_its_owner() -> None:
    cast = {"Fitzwilliam Darcy": "darcy", "Anne Hill": "hill"}
    assert said('"Yes," said Mr. Darcy.\n\n"No," said Anne.\n', cast) == [
        ("Fitzwilliam Darcy", "Yes."),
        ("Anne Hill", "No."),
    ]


def test_the_narrator_of_a_cast_is_who_is_called_by_name_and_never_told_of() -> None:
    told = '"Look, Watson," said Holmes.\n\n"At what?" said I.\n\nI rose and went over. I saw nothing. I sat down.\n\n'
    spoken = said(told * 8, ["Holmes", "Watson"])
    assert spoken[1] == ("Watson", "At what?")


def test_she_is_the_woman_who_was_told_of_last() -> None:
    left = '"Good day," said Ben.\n\nBen went out. Lucy took her hat and sat down. She looked at Tom.\n\n'
    assert said(left + '"Well," said she.\n', ["Ben", "Lucy", "Tom"])[1] == ("Lucy", "Well.")


def test_a_comma_that_the_tag_asked_for_is_a_full_stop_and_the_span_stays_as_written() -> None:
    (line,) = [line for line in parse('"I think so," said Anna.\n', "w") if line.kind == "speech"]
    assert line.text == "I think so."
    assert '"I think so," said Anna.\n'[line.start : line.end] == "I think so,"


def test_less_confidence_is_less_often_right_in_a_dialogue_that_names_fewer() -> None:
    clear = '"One," said Anna.\n\n"Two," said Ben.\n\n"Three."\n\n"Four."\n'
    found = [line.confidence for line in parse(clear, "w") if line.kind == "speech"]
    assert found[0] == found[1] > found[2] >= found[3] > 0.6

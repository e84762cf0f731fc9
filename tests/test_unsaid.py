"""Words in marks that nobody says: titles, mottoes, letters, what might have been said."""

from __future__ import annotations

import pytest

from understudy.prose import parse


def words(text: str) -> list[str]:
    return [line.text for line in parse(text, "w") if line.kind == "speech"]


@pytest.mark.parametrize(
    "sentence",
    [
        'Anna did not say "never again," but Ben saw it in her face.',
        'Ben would have said, "Stay with us!" had she looked up.',
        'The cart was gone before you could say "Whoa!" to the mare.',
        'She wanted to ask, "Who lit the lamp?" and found no breath.',
        '"To the miller, from his friends," was engraved upon the lid.',
        'On the lid was a card with "For the miller of the hill," written on it.',
        'The board bore the legend, "No boats after dark."',
        '"A late frost is a thief," people say in the valley.',
        'In a hamlet called "Low Water" they changed horses.',
        'Then the choir sang "The Mill in the Snow" from the loft.',
        'He told her that it "was a thing which he would sooner have forgotten."',
    ],
)
def test_words_that_nobody_says_there_and_then_are_narration(sentence: str) -> None:
    assert words(f'{sentence}\n\n"Good," said Anna.\n') == ["Good."]


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ('Anna came in, saying, "I have the key of the mill."', "I have the key of the mill."),
        ('A thin voice was calling, "Anna" over the water.', "Anna"),
        ('"I told you so"--and she shut the door.', "I told you so"),
        ('She could only say, "I saw the light go out."', "I saw the light go out."),
        ('"I would have said so," said Ben.', "I would have said so."),
        ('Ben tore up the letter and spoke thus: "I stay where I am."', "I stay where I am."),
        ('Anna whispered, "The Mill in the Snow."', "The Mill in the Snow."),
        ('"Dear Anna," wrote Ben.', "Dear Anna."),
    ],
)
def test_words_that_somebody_does_say_stay_speech(text: str, spoken: str) -> None:
    assert words(f'{text}\n\n"Good," said Anna.\n') == [spoken, "Good."]


def test_what_follows_a_tag_goes_on_whatever_its_end() -> None:
    assert words('"My uncle," said Anna, "would like us to go" (she looked at the door) "before it rains."\n') == [
        "My uncle, would like us to go",
        "before it rains.",
    ]


def test_a_title_behind_a_tag_is_no_part_of_the_speech() -> None:
    text = '"Look," said Anna, pointing at a picture--a small one named "the frozen mill"--by the door.\n'
    assert words(text) == ["Look."]


def test_a_motto_above_a_chapter_is_not_its_first_speech() -> None:
    verse = '"The wheel goes round, the water goes,\nAnd nobody can tell who knows."'
    sourced = '"No lamp was ever lit by talk."\n--Sayings of the Valley.'
    for motto in (verse, sourced):
        text = f'CHAPTER I.\n\nThe Lamp\n\n{motto}\n\n"Good day," said Anna.\n\nCHAPTER II.\n\n"Come in," said Ben.\n'
        assert words(text) == ["Good day.", "Come in."]


def test_a_chapter_may_begin_with_speech() -> None:
    text = 'CHAPTER I.\n\n"Well, Anna, so the mill is sold.\nI heard it from Ben."\n\nThe rain had stopped.\n'
    assert len(words(text)) == 1


LETTER = """Ben read the letter in the porch. It was as follows:

"MY DEAR BEN,"

"The mill is sold, and we leave on Friday. Your coat is at the inn."

"Do not write."

"Yours truly, ANNA."

"She is gone," said Ben.
"""


def test_a_letter_from_its_greeting_to_its_signature_is_narration() -> None:
    assert words(LETTER) == ["She is gone."]
    assert words(LETTER.replace("It was as follows:", "He sat down.")) == ["She is gone."]


def test_a_letter_without_a_signature_is_only_what_is_announced() -> None:
    text = 'Then came a note to this effect:\n\n"The mill is sold."\n\n"She is gone," said Ben.\n\n"Gone?" said Carl.\n'
    assert words(text) == ["She is gone.", "Gone?"]


def test_a_fond_address_in_a_dialogue_is_no_letter() -> None:
    text = '"My dear Anna,"\n\n"Yes?"\n\n"Your mother is here."\n\n"Is she?" said Anna.\n'
    assert len(words(text)) == 4


def test_nobody_is_told_of_in_a_letter() -> None:
    text = (
        'Ben sat with Anna. The letter was as follows:\n\n"Dear Ben, Carl and Dora are here. Carl sends his love."\n\n'
        '"Sad news," he said.\n'
    )
    (line,) = [line for line in parse(text, "w", ["Anna", "Ben", "Carl", "Dora"]) if line.kind == "speech"]
    assert line.speaker == "Ben"

"""Quotes in tokenised text: marks stand alone, sentences are rows, paragraphs are gone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.prose import parse
from understudy.tokenised import is_tokenised


def words(text: str) -> list[str]:
    return [line.text for line in parse(text, "w") if line.kind == "speech"]


STRAIGHT = """" Yes , " said Anna , who stood , as ever , at the door .
Ben 's hat was wet , and it dripped .
" Come in , " said she .
" It is cold , and the kettle is on . "
" Thank you , " said Ben , " but I can n't stay . "
He left , slowly .
"""


def test_a_mark_that_stands_alone_opens_or_closes_by_its_place_in_the_row() -> None:
    assert words(STRAIGHT) == [
        "Yes .",
        "Come in .",
        "It is cold , and the kettle is on .",
        "Thank you , but I can n't stay .",
    ]


def test_apostrophes_of_tokens_open_nothing_even_where_single_marks_quote() -> None:
    text = STRAIGHT.replace('"', "'").replace("hat was", "hat , Ben 's own , was")
    assert words(text) == words(STRAIGHT)


def test_a_lost_closing_mark_spoils_its_own_sentence_only() -> None:
    text = STRAIGHT.replace('on . "', "on .")
    assert words(text)[-2:] == words(STRAIGHT)[-2:]


def test_a_quote_over_several_rows_is_one_and_ends_at_its_mark() -> None:
    text = '" Wait , " said Anna , " I beg .\nIt rains , you see .\nStay . "\nHe stayed , of course .\n'
    assert words(text)[0].startswith("Wait ,")
    assert words(text)[0].endswith("Stay .")
    assert len(words(text)) == 1


def test_dialogue_dashes_take_the_sentences_up_to_the_one_that_tells() -> None:
    text = (
        "— Come up , Anna !\nCome up , you lazy girl !\nShe went up the stairs , slowly .\n"
        "— Here I am , Ben , she said .\nWhere are you ?\nHe looked round , and laughed .\n"
        "Then he said : — I am here .\n"
    )
    assert words(text) == [
        "Come up , Anna ! Come up , you lazy girl !",
        "Here I am , Ben .",
        "Where are you ?",
        "I am here .",
    ]


def test_ordinary_prose_and_chinese_are_not_taken_for_tokens() -> None:
    assert is_tokenised(STRAIGHT)
    assert not is_tokenised('"Yes," said Anna, "I will." Then, at last, she sat.')
    assert not is_tokenised("宝玉道：“好，好。”")
    assert not is_tokenised("")


PIECES = ['"', "'", "“", "”", "‘", "’", "``", "—", "--", ",", ".", "said", "Anna", "he", "'s", "n't", "no", "\n", "_"]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join))
def test_any_tokens_give_ordered_spans_within_the_text(text: str) -> None:
    text = "a , b , c , d\n" + text
    last = 0
    for line in parse(text, "w"):
        assert last <= line.start < line.end <= len(text)
        last = line.end

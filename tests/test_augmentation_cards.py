from __future__ import annotations

from dataclasses import replace

import pytest

from tests.parts import PARTS, part, planned
from understudy.augmentation import cards
from understudy.augmentation.card_fields import free_card
from understudy.augmentation.steps import CardsStep
from understudy.letters import letters
from understudy.persona import Persona, cast_entry_persona
from understudy.recipe import CastEntry, Recipe

STEP = CardsStep(kind="cards", name="c", chunk_chars=2000)


def note_of(job, **lists):
    value = {name: lists.get(name, []) for name in cards.LISTS}
    [note] = cards.read(STEP, job, value)
    return note


def test_a_cards_statement_without_lines_that_were_shown_is_dropped_and_counted():
    jobs, _ = planned(STEP)
    job = jobs[0]
    number = next(int(n) for n, line in job.meta["ids"].items() if line in job.meta["said"])
    line = job.meta["ids"][str(number)]
    said = job.meta["said"][line]
    note = note_of(
        job,
        description=[
            {"text": "Wisp is a small ghost.", "lines": [number]},
            {"text": "Wisp is a king.", "lines": [99_999]},
            {"text": "Wisp is old.", "lines": []},
            {"text": "Wisp is both.", "lines": [number, 99_999]},
            {"text": "As an AI I think so.", "lines": [number]},
        ],
        examples=[
            {"user": "Hello?", "reply": said, "lines": [number]},
            {"user": "Hello?", "reply": "I never said this at all.", "lines": [number]},
        ],
    )
    assert [(one["text"], one["lines"]) for one in note.value["kept"]["description"]] == [
        ("Wisp is a small ghost.", [line])
    ]
    assert [one["reply"] for one in note.value["kept"]["examples"]] == [said]
    assert note.value["dropped"] == {cards.NO_LINES: 3, cards.NOT_SAID: 1, cards.OFF_VOICE: 1}


def test_chunks_of_a_long_part_are_merged_by_one_more_call_that_may_cite_what_the_notes_cite():
    jobs, material = planned(STEP)
    assert len(jobs) > 2
    assert cards.rounds(STEP, material) == 2
    numbers = [next(iter(job.meta["ids"])) for job in jobs]
    notes = [
        note_of(job, habits=[{"text": f"Wisp says it {n} times.", "lines": [int(n)]}])
        for n, job in zip(numbers, jobs, strict=True)
    ]
    [merging], _ = planned(STEP, notes=notes, number=1)
    assert set(merging.meta["ids"]) == set(numbers)
    for n in numbers:
        assert f"Wisp says it {n} times. [{n}]" in merging.messages[1]["content"]
    held = note_of(merging, habits=[{"text": "Wisp says it twice.", "lines": [int(n) for n in numbers]}])
    data = cards.finish(STEP, replace(material, persona=bare(material.persona)), [*notes, held])["card.json"]["data"]
    assert data["personality"] == "Wisp says it twice."
    lines = [job.meta["ids"][n] for n, job in zip(numbers, jobs, strict=True)]
    assert data["extensions"]["understudy"]["citations"]["personality"] == [
        {"text": "Wisp says it twice.", "lines": lines}
    ]
    # Where the merging call failed, the notes of the chunks still make a card.
    alone = cards.finish(STEP, replace(material, persona=bare(material.persona)), notes)["card.json"]["data"]
    assert alone["personality"].count("Wisp says it") == len(notes)


def test_no_more_chunks_are_read_than_the_step_allows_and_they_lie_evenly():
    step = CardsStep(kind="cards", name="c", chunk_chars=500, chunks=4)
    jobs, material = planned(step)
    every = cards.chunks(step.model_copy(update={"chunks": 200}), material)
    assert len(jobs) == 4
    assert len(every) > 8
    starts = [min(map(int, job.meta["ids"])) for job in jobs]
    assert starts == [every[i * len(every) // 4][0][0] for i in range(4)]


def bare(persona: Persona) -> Persona:
    return Persona(name=persona.name, display_name=persona.display_name, aliases=persona.aliases)


def test_what_a_person_wrote_in_a_card_or_cast_entry_is_never_replaced():
    _, material = planned(STEP)
    mine = material.persona
    jobs, _ = planned(STEP)
    n = next(iter(jobs[0].meta["ids"]))
    note = note_of(
        jobs[0],
        description=[{"text": "Another description.", "lines": [int(n)]}],
        greetings=[{"text": "Another, another greeting...", "lines": [int(n)]}],
        lore=[{"keys": ["lamp"], "text": "The lamp stands on the quay.", "lines": [int(n)]}],
    )
    card = cards.finish(STEP, material, [note])["card.json"]
    before = mine.to_card()["data"]
    for field in ("name", "description", "personality", "scenario", "first_mes", "alternate_greetings", "mes_example"):
        assert before[field]
        assert card["data"][field] == before[field]
    drafted = card["data"]["extensions"]["understudy"]["drafted"]
    assert drafted["fields"] == []
    assert card["data"]["character_book"]["entries"][0]["content"] == "The lamp stands on the quay."
    assert card["data"]["character_book"]["entries"][0]["extensions"]["understudy"]["citations"]
    # An entry's own greeting wins, what it leaves empty is filled, and the card reads back as one.
    entry = CastEntry(name="wisp", greeting="Mine.")
    partly = cast_entry_persona(entry, Recipe(name="x"))
    card = cards.finish(STEP, replace(material, persona=partly), [note])["card.json"]
    assert card["data"]["first_mes"] == "Mine."
    assert card["data"]["description"] == "Another description."
    assert card["data"]["alternate_greetings"][0] == "Another, another greeting..."
    again = Persona.from_card(card)
    assert again.greeting == "Mine."
    # Drafting from a drafted card changes nothing: every field is a person's now.
    second = cards.finish(STEP, replace(material, persona=again), [])["card.json"]
    kept = {k: v for k, v in second["data"].items() if k != "extensions"}
    assert kept == {k: v for k, v in card["data"].items() if k != "extensions"}
    assert (
        second["data"]["extensions"]["understudy"]["citations"] == card["data"]["extensions"]["understudy"]["citations"]
    )


@pytest.mark.parametrize(("example", "name"), PARTS)
def test_without_a_model_greetings_and_examples_are_real_lines_and_cite_them(example, name):
    whole = part(example, name)
    step = CardsStep(kind="cards", name="c", endpoint=None)
    assert cards.rounds(step, whole.whole) == 0
    card = free_card(bare(whole.persona), whole.whole.scenes)
    assert card == cards.finish(step, replace(whole.whole, persona=bare(whole.persona)), [])["card.json"]
    data = card["data"]
    said = {row["line_id"]: row["text"] for row in whole.whole.lines}
    greetings = [data["first_mes"], *data["alternate_greetings"]]
    assert len(set(greetings)) == len(greetings) >= 2
    cited = data["extensions"]["understudy"]["citations"]
    for one in (*cited["first_mes"], *cited["alternate_greetings"]):
        assert letters(one["text"]) in letters(said[one["lines"][0]])
        assert one["text"] in greetings
    assert data["mes_example"].count("<START>") == len(cited["mes_example"]) >= 2
    assert data["description"] == ""


def test_a_persona_without_lines_gets_no_card_fields_and_no_error():
    persona = Persona(name="nobody", display_name="Nobody")
    data = free_card(persona, ())["data"]
    assert (data["first_mes"], data["alternate_greetings"], data["mes_example"]) == ("", [], "")

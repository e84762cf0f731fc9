"""The review room over HTTP with a real server: what is shown, what a decision writes, who may write."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from serve.review import opened
from tests.production import PLAY, extract, small_production
from understudy import overlay
from understudy.conversation import Message
from understudy.dataset import read_conversations
from understudy.reviewing.lists import Filter
from understudy.reviewing.room import Room, finished


class Page:
    """A browser's side of the page."""

    def __init__(self, url: str):
        self.url = url

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: Any) -> Any:
        """The JSON of a reply; HTTPError for any but 200."""
        given = {"Content-Type": "application/json", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.url}{path}{'?' + urlencode(query) if query else ''}"
        with urllib.request.urlopen(urllib.request.Request(address, data, given), timeout=30) as reply:
            return json.load(reply)

    def refused(self, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: Any) -> int:
        """The status of a refusal."""
        with pytest.raises(urllib.error.HTTPError) as error:
            self.ask(path, body, headers, **query)
        return error.value.code


@pytest.fixture
def made(tmp_path: Path):
    return small_production(tmp_path)


@pytest.fixture
def page(made) -> Iterator[Page]:
    with opened(Room(made[1], made[0], "tester")) as running:
        yield Page(running.url)


def row_of(page: Page, text: str) -> dict[str, Any]:
    return next(row for row in page.ask("lines")["rows"] if text in row["text"])


def decided(made) -> overlay.Overlay:
    return overlay.read(made[1], made[0].name)


def lines_of(made) -> list[dict[str, Any]]:
    unit = finished(made[1], made[0].name, "extract")[0]
    return made[1].read_table(f"{unit.key}/lines.parquet").to_pylist()


def test_every_decision_ends_in_the_overlay_and_changes_just_its_line(made, page):
    page.ask("decide", {"kind": "lines", "at": row_of(page, "lit the lamp")["at"], "do": "keep"})
    page.ask("decide", {"kind": "lines", "at": row_of(page, "dark on the stairs.")["at"], "do": "drop"})
    fixed = page.ask("decide", {"kind": "lines", "at": row_of(page, "good lamp")["at"], "do": "fix", "speaker": "bo"})
    page.ask("decide", {"kind": "lines", "at": row_of(page, "any bread")["at"], "do": "edit", "text": "Any bread?"})
    before, (after, stale) = lines_of(made), decided(made).apply_to_lines(lines_of(made))
    now = {row["line_id"]: row for row in after}
    changed = {row["line_id"]: row for row in before if now.get(row["line_id"]) != row}
    assert not stale
    assert len(changed) == 4
    assert fixed["row"]["persona"] == "bo"
    assert fixed["row"]["speaker"] == "BO"  # as the play writes him, not by his id
    assert {one.who for one in decided(made).decisions} == {"tester"}
    texts = [row["text"] for row in after]
    assert "Any bread?" in texts
    assert "I did. It was dark on the stairs." not in texts


def test_a_decision_about_a_line_does_not_show_on_another_with_the_same_words(tmp_path):
    refrain = "ADA: It is always dark on the stairs."
    recipe, store = small_production(tmp_path, PLAY.replace("ADA: The cook says many things.", refrain))
    room = Room(store, recipe)
    first, second = (row["at"] for row in room.lines(Filter(text="always dark"), None, 9)["rows"])
    assert room.decide("lines", first, "fix", speaker="NELL")["speaker"] == "NELL"
    shown = room.lines(Filter(text="always dark"), None, 9)["rows"]
    assert [(row["speaker"], row["status"]) for row in shown] == [("NELL", "fix"), ("ADA", "")]
    assert room.decide("lines", second, "keep")["status"] == "keep"


def test_a_line_said_by_nobody_loses_its_persona(made, page):
    row = page.ask("decide", {"kind": "lines", "at": row_of(page, "any bread")["at"], "do": "fix", "speaker": " "})
    assert row["row"]["persona"] is None
    assert row["row"]["was"]["persona"] == "bo"


def test_undo_goes_back_to_what_was_decided_before(made, page):
    at = row_of(page, "lit the lamp")["at"]
    page.ask("decide", {"kind": "lines", "at": at, "do": "edit", "text": "Who lit it?"})
    page.ask("decide", {"kind": "lines", "at": at, "do": "drop"})
    assert page.ask("undo", {})["undone"]
    back = next(row for row in page.ask("lines")["rows"] if row["at"] == at)
    assert (back["status"], back["text"]) == ("edit", "Who lit it?")
    assert page.ask("undo", {})["undone"]
    assert row_of(page, "Who lit the lamp?")["status"] == ""
    assert not page.ask("undo", {})["undone"]
    assert decided(made).apply_to_lines(lines_of(made))[0] == lines_of(made)


def test_undo_takes_back_what_was_decided_on_this_page_and_leaves_what_others_decided(made, page):
    lamp, bread = row_of(page, "good lamp")["at"], row_of(page, "any bread")["at"]
    page.ask("decide", {"kind": "lines", "at": lamp, "do": "drop", "page": "mine"})
    page.ask("decide", {"kind": "lines", "at": bread, "do": "drop", "page": "other"})
    assert page.ask("about", page="mine")["undo"] == 1
    assert page.ask("undo", {"page": "mine"}) == {"undone": True, "undo": 0}
    assert row_of(page, "good lamp")["status"] == ""
    assert row_of(page, "any bread")["status"] == "drop"
    assert not page.ask("undo", {"page": "mine"})["undone"]
    assert not page.ask("undo", {})["undone"]
    assert page.refused("undo", {"page": 3}) == 400


def test_undo_of_a_line_that_somebody_else_decided_on_since_leaves_their_word(made, page):
    recipe, store = made
    at = row_of(page, "any bread")["at"]
    page.ask("decide", {"kind": "lines", "at": at, "do": "edit", "text": "Any bread?"})
    other = Room(store, recipe, "bo")
    other.decide("lines", at, "edit", text="Any cheese?")
    other.decide("lines", row_of(page, "good lamp")["at"], "keep")
    assert page.ask("undo", {})["undone"]
    assert row_of(page, "Any cheese?")["at"] == at
    assert [one.who for one in decided(made).decisions if one.text == "Any cheese?"] == ["bo", "bo"]
    assert other.undo()
    assert other.undo()
    assert Room(store, recipe).line(at)["status"] == ""
    assert not other.undo()


def test_decisions_show_again_after_another_extraction_that_moved_the_lines(made, page):
    page.ask("decide", {"kind": "lines", "at": row_of(page, "good lamp")["at"], "do": "drop"})
    recipe, store = made
    play = "A play.\n\n" + PLAY.replace("any bread", "any cheese")
    (Path(recipe.folder) / "play.txt").write_text(play)
    extract(recipe, store, play)
    room = Room(store, recipe)
    dropped = room.lines(Filter(status="drop"), None, 50)["rows"]
    assert [row["text"] for row in dropped] == ["Then it is a good lamp."]
    assert room.about()["stale"] == 0


def test_decisions_of_a_renamed_work_are_named_on_the_page(made, page):
    recipe, store = made
    page.ask("decide", {"kind": "lines", "at": row_of(page, "good lamp")["at"], "do": "drop"})
    assert page.ask("about")["lost_works"] == {}
    moved = [replace(one, work="old play") for one in decided(made).decisions]
    overlay.add(store, recipe.name, [*moved, replace(moved[0], kind="conversation", persona="ada", digest="f" * 16)])
    about = page.ask("about")
    assert about["lost_works"] == {"old play": 1}
    assert about["stale"] == 1


def test_filters_and_pages_pass_every_line_once(tmp_path):
    play = "SCENE\n\n" + "\n".join(f"{'ADA' if n % 3 else 'BO'}: This is line {n}." for n in range(1, 1201))
    recipe, store = small_production(tmp_path, play)
    room = Room(store, recipe)
    for wanted, count in ((Filter(), 1200), (Filter(persona="bo"), 400), (Filter(text="line 119"), 11)):
        seen: list[str] = []
        after = None
        while True:
            page = room.lines(wanted, after, 70)
            assert page["total"] == count
            assert page["before"] == len(seen)
            seen += [row["line_id"] for row in page["rows"]]
            if not page["more"]:
                break
            after = page["rows"][-1]["at"]
        assert len(set(seen)) == len(seen) == count


def test_rows_that_leave_a_filter_do_not_shift_the_next_page(made, page):
    first = page.ask("lines", status="open", limit=3)
    for row in first["rows"]:
        page.ask("decide", {"kind": "lines", "at": row["at"], "do": "keep"})
    second = page.ask("lines", status="open", limit=3, after=first["rows"][-1]["at"])
    everything = page.ask("lines")["rows"]
    assert [row["at"] for row in second["rows"]] == [row["at"] for row in everything[3:6]]
    assert page.ask("lines", status="keep")["total"] == 3
    assert page.ask("lines", below="0.1")["total"] == 0
    assert page.ask("lines", persona="-")["total"] == 2


def test_samples_are_edited_dropped_and_counted(made, page):
    rows = page.ask("samples", generated=1)["rows"]
    assert len(rows) == 3
    assert {line["line_id"] for line in rows[0]["cited"]} == {"play:1", "play:2"}
    page.ask("decide", {"kind": "samples", "at": rows[0]["at"], "do": "drop"})
    edited = {"1": "Bring nothing."}
    page.ask("decide", {"kind": "samples", "at": rows[1]["at"], "do": "edit", "messages": edited})
    unit = finished(made[1], made[0].name, "augment")[0]
    own = read_conversations(made[1].read_table(f"{unit.key}/conversations.parquet"))
    found, stale = decided(made).apply_to_conversations(own, "ada")
    assert [status for _, status in found] == ["drop", "edit", ""]
    assert found[1][0].messages[1] == Message("assistant", "Bring nothing.", loss=True)
    assert not stale
    assert page.ask("about")["decided"]["samples"] == {"drop": 1, "edit": 1}


def test_a_draft_is_accepted_with_its_citations_and_never_over_an_edit(made, page):
    shown = page.ask("cards")
    field = shown["cards"][0]["fields"][0]
    assert (field["field"], field["state"]) == ("description", "open")
    assert shown["lines"]["play:3"]["text"] == "It is always dark on the stairs."
    path = Path(made[0].folder) / "cards" / "ada.json"
    given = {"unit": "ada:portrait", "field": "description", "value": "Ada, by dark stairs.", "was": None}
    card = json.loads(path.read_text())
    card["data"]["description"] = "Written by hand."
    path.write_text(json.dumps(card))
    assert page.refused("accept", given) == 409
    assert json.loads(path.read_text())["data"]["description"] == "Written by hand."
    page.ask("accept", {**given, "was": "Written by hand."})
    data = json.loads(path.read_text())["data"]
    assert data["description"] == "Ada, by dark stairs."
    assert data["personality"] == "dry"
    assert data["extensions"]["understudy"]["citations"]["description"][0]["lines"] == ["play:3"]


def test_nobody_without_the_token_or_from_another_page_is_answered(made, page):
    parts = urlsplit(page.url)
    at = row_of(page, "lit the lamp")["at"]
    decision = {"kind": "lines", "at": at, "do": "drop"}
    bare = Page(f"{parts.scheme}://{parts.netloc}/")
    assert bare.refused("") == 404
    assert bare.refused("lines") == 404
    assert Page(f"{bare.url}{'x' * 32}/").refused("decide", decision) == 404
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{parts.port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert page.refused("decide", decision, headers) == 403
        assert page.refused("lines", headers=headers) == 403
    assert page.refused("decide", decision, {"Content-Type": "text/plain"}) == 415
    assert not decided(made).decisions
    assert page.ask("decide", decision, {"Origin": f"http://{parts.netloc}"})["row"]["status"] == "drop"


def test_the_page_runs_only_its_own_script_and_asks_nobody_else(page):
    with urllib.request.urlopen(page.url, timeout=30) as reply:
        policy, text = reply.headers["Content-Security-Policy"], reply.read().decode()
    assert "default-src 'none'" in policy
    nonce = policy.split("script-src 'nonce-")[1].split("'")[0]
    assert text.count(f'nonce="{nonce}"') == text.count("<script") + text.count("<style") == 2
    assert "//" not in text.replace("</", "")
    assert "innerHTML" not in text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("decide", {"kind": "lines", "at": "9:9", "do": "keep"}),
        ("decide", {"kind": "lines", "at": "0:0", "do": "fix"}),
        ("decide", {"kind": "lines", "at": "0:1", "do": "edit", "text": " "}),
        ("decide", {"kind": "samples", "at": "0:0", "do": "edit", "messages": {"7": "x"}}),
        ("decide", {"kind": "samples", "at": "0:0", "do": "fix", "speaker": "x"}),
        ("decide", {"kind": "lines", "at": "0:1", "do": "burn"}),
        ("decide", []),
        ("accept", {"unit": "ada:gifts", "field": "description", "value": "x"}),
        ("accept", {"unit": "ada:portrait", "field": "description", "value": 3}),
        ("lines?below=much", None),
        ("lines?after=nowhere", None),
        ("context?at=0:99999", None),
    ],
)
def test_what_does_not_hold_is_refused_and_writes_nothing(made, page, path, body):
    assert page.refused(path, body) == 400
    assert not decided(made).decisions

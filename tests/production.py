"""A small finished production in a store, without Ray: lines of a play, generated conversations, a drafted card."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from jobs.stage import Unit, write_latest
from understudy.conversation import Conversation, Message, Provenance, conversation_id
from understudy.dataset import conversations_table, lines_table, persona_view
from understudy.prose import read_work
from understudy.recipe import Recipe, load
from understudy.record import rows_digest, table_digest
from understudy.script import assign
from understudy.store import Store

PLAY = """SCENE ONE

ADA: Who lit the lamp?
BO: I did. It was dark on the stairs.
ADA: It is always dark on the stairs.
NELL: Then it is a good lamp.

SCENE TWO

BO: Is there any bread?
ADA: There is bread, and there is soup.
NELL: <b>Soup</b> & bread, said the cook.
ADA: The cook says many things.
BO: And means none of them.
"""
RECIPE = """name: small
store: ./store
corpus: [{path: play.txt, rights: {source: "<i>ours</i>", licence: Apache-2.0}}]
cast:
  - {name: ada, aliases: [ADA], card: cards/ada.json}
  - {name: bo, display_name: Bo the Smith, aliases: [BO]}
"""
CARD = (
    '{"spec": "chara_card_v2", "spec_version": "2.0", "data": {"name": "Ada", "description": "", "personality": "dry"}}'
)


def small_production(folder: Path, play: str = PLAY, samples: int = 3) -> tuple[Recipe, Store]:
    """The recipe and its store: extracted, augmented (ada:gifts, ada:portrait), nothing curated."""
    (folder / "cards").mkdir(parents=True)
    (folder / "play.txt").write_text(play, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "cards" / "ada.json").write_text(CARD)
    recipe = load(folder / "recipe.yaml")
    store = Store.open(folder / "store")
    extract(recipe, store, play)
    augment(recipe, store, samples)
    return recipe, store


def extract(recipe: Recipe, store: Store, play: str) -> None:
    """As the stage leaves a work."""
    began = time.time()
    from understudy.persona import cast_entries, cast_entry_persona

    kind, lines = read_work(play, "play")
    cast = [cast_entry_persona(entry, recipe) for entry in cast_entries(recipe)]
    table = lines_table(assign(lines, cast, "play"))
    rows = table.to_pylist()
    spoken = [row for row in rows if row["kind"] == "speech"]
    views = {name: rows_digest(persona_view(rows, name)) for name in ("ada", "bo")}
    counts = {
        "lines": len(rows),
        "speeches": len(spoken),
        "unassigned": sum(row["persona"] is None for row in spoken),
        "encoding": {"name": "utf-8", "confidence": 1.0},
        "kind": kind,
        "characters": len(play),
        "views": views,
    }
    digest = hashlib.sha256(play.encode()).hexdigest()
    rights = recipe.corpus[0].rights.model_dump()
    unit = Unit(recipe.name, "extract", 1, "play", {}, {"text": digest}, (rights,))
    store.write_table(f"{unit.key}/lines.parquet", table)
    unit.finish(store, {"lines.parquet": table_digest(table)}, counts, began)
    write_latest(store, recipe.name, "extract", {"play": unit.fingerprint})


def augment(recipe: Recipe, store: Store, samples: int) -> None:
    """As two steps leave it: some generated conversations, and a drafted card."""
    began = time.time()
    made = [generated(number) for number in range(samples)]
    gifts = Unit(recipe.name, "augment", 1, "ada:gifts", {"step": "gifts"}, {})
    table = conversations_table(made)
    store.write_table(f"{gifts.key}/conversations.parquet", table)
    ledger = {
        "calls": samples,
        "cached": 1,
        "requests": samples - 1,
        "tokens_in": 900,
        "tokens_out": 300,
        "money": 0.25,
    }
    counts: dict[str, Any] = {"kind": "style", "calls": samples, "cached": 1, "accepted": samples, "set_aside": 0}
    gifts.finish(
        store, {"conversations.parquet": table_digest(table)}, {**counts, "reasons": {}, "ledger": ledger}, began
    )
    portrait = Unit(recipe.name, "augment", 1, "ada:portrait", {"step": "portrait"}, {})
    cited = {"description": [{"text": "Ada lives by dark stairs.", "lines": ["play:3"]}]}
    own = {"citations": cited, "drafted": {"prompt": "cards/1", "fields": ["description"], "dropped": {}}}
    data = {"name": "Ada", "description": "Ada lives by dark stairs.", "extensions": {"understudy": own}}
    store.put_json(f"{portrait.key}/card.json", {"spec": "chara_card_v2", "spec_version": "2.0", "data": data})
    portrait.finish(store, {"card.json": "0"}, {"kind": "cards", "reasons": {}}, began)
    units = {"ada:gifts": gifts.fingerprint, "ada:portrait": portrait.fingerprint}
    write_latest(store, recipe.name, "augment", units)


def generated(number: int) -> Conversation:
    """One conversation that a model wrote."""
    messages = (
        Message("user", f"What shall I bring on day {number}?"),
        Message("assistant", f"Bring bread {number} times.", loss=True),
    )
    origin = Provenance("gifts", ("play:1", "play:2"), method="style", prompt="style/1", model="m", seed=number)
    return Conversation(conversation_id("ada", messages, origin), "ada", "train", f"gifts/{number}", messages, origin)

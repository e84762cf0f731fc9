"""Who said what, by rules and a model behind them: accuracy against calls, by the confidence below which it is asked.

    python -m benchmarks.attribution_calls FOLDER --oracle 0.9 [--seed N] [--window-chars N]
    python -m benchmarks.attribution_calls FOLDER --base-url URL --model NAME [--api-key-env NAME] [--store DIR]

FOLDER as for `prose_quotes`: novels as the Project Dialogism Novel Corpus lays them out, their cast given. The same
windows, prompts and reading of answers as `extract.llm` has. `--oracle` is no model: it takes the answer from the
annotation and is right with the probability given (each speech drawn once, by seed, for all thresholds); else it names
somebody else of the cast whose name stands in the window. Its rows show what calls can buy, not what a model knows.
With `--base-url` a model answers; its replies are kept in --store (default: a folder that is thrown away).
Tokens are estimates (four letters one). A speech outside the annotation counts for nothing but is asked all the same.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.prose_quotes import Score, judge, read_csv, trimmed
from understudy.attributing import SPEAKERS_SCHEMA, Names, Window, named, question, speakers_of, windows
from understudy.lines import Line
from understudy.prose import parse

THRESHOLDS = (0.0, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 1.0)
HEAD = "| threshold | spans sent | calls | tokens in | right of all | committed | right of committed | refused |"

Answerer = Callable[["Novel", Sequence[Window]], list[Any]]


@dataclass
class Novel:
    """A novel as the rules read it, and as people did."""

    name: str
    text: str
    lines: list[Line]
    names: Names
    ids: dict[str, str]
    """Main name by every name in small letters."""
    quotes: list[tuple[dict[str, str], int | None]]
    """Annotated quotes, each with the position of the line over its first span."""
    gold: dict[int, str]
    """Who says a line."""

    @classmethod
    def of(cls, folder: Path) -> Novel:
        """Parse the text, and lay the annotation over its lines."""
        text = (folder / "novel_text.txt").read_text("utf-8")
        cast = [
            (row["Main Name"], sorted(ast.literal_eval(row["Aliases"])))
            for row in read_csv(folder / "character_info.csv")
        ]
        owners = {alias: name for name, also in cast for alias in (*also, name)}
        lines = parse(text, folder.name.lower(), owners)
        speeches = [i for i, line in enumerate(lines) if line.kind == "speech"]
        starts = [lines[i].start for i in speeches]
        quotes: list[tuple[dict[str, str], int | None]] = []
        gold: dict[int, str] = {}
        for quote in read_csv(folder / "quotation_info.csv"):
            middle = sum(trimmed(text, *ast.literal_eval(quote["quoteByteSpans"])[0])) // 2
            at = bisect_right(starts, middle) - 1
            position = speeches[at] if at >= 0 and lines[speeches[at]].end >= middle else None
            quotes.append((quote, position))
            if position is not None:
                gold.setdefault(position, quote["speaker"])
        ids = {alias.casefold(): name for alias, name in owners.items()}
        return cls(folder.name, text, lines, Names.of(cast, lines), ids, quotes, gold)

    def score(self, lines: Sequence[Line]) -> Score:
        """The annotation against these lines."""
        one = Score()
        for quote, position in self.quotes:
            one.quotes += 1
            judge(one, quote, None if position is None else lines[position], self.ids, misses=False)
        return one


def main() -> int:
    """Print the table."""
    options = _options()
    folders = sorted(path.parent for path in options.folder.glob("*/quotation_info.csv"))
    if not folders:
        print(f"{options.folder}: no */quotation_info.csv", file=sys.stderr)
        return 2
    novels = [Novel.of(folder) for folder in folders]
    with tempfile.TemporaryDirectory() as scratch:
        if options.base_url:
            answer, ledger = endpoint(options, Path(options.store or scratch))
        else:
            answer, ledger = oracle(options.oracle, options.seed), None
        print(f"{HEAD}\n{'|---' * HEAD.count(' |')}|")
        rules = Score()
        for novel in novels:
            rules.add(novel.score(novel.lines))
        print(row("rules alone", rules, 0, 0, 0, 0, 1))
        for threshold in THRESHOLDS:
            print(measured(novels, threshold, options.window_chars, answer), flush=True)
        if ledger is not None:
            print(f"\nledger: {ledger()}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--oracle", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--window-chars", type=int, default=4000)
    parser.add_argument("--base-url", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY")
    parser.add_argument("--store", default="")
    return parser.parse_args()


def measured(novels: Sequence[Novel], threshold: float, window_chars: int, answer: Answerer) -> str:
    """A row of the table: every novel, asked at this threshold."""
    total = Score()
    spans = calls = refused = speeches = 0
    letters = 0
    for novel in novels:
        asked = list(windows(novel.lines, novel.text, 0, threshold, window_chars))
        speakers: dict[int, str] = {}
        for window, value in zip(asked, answer(novel, asked), strict=True):
            read = speakers_of(window, value, novel.names)
            speakers.update(read.speakers)
            refused += len(read.refused)
            letters += sum(len(message["content"]) for message in question(window, novel.names))
        total.add(novel.score(named(novel.lines, speakers, novel.names)))
        spans += sum(len(window.spans) for window in asked)
        calls += len(asked)
        speeches += sum(line.kind == "speech" for line in novel.lines)
    return row(f"{threshold:g}", total, spans, calls, letters // 4, refused, speeches)


def row(name: str, one: Score, spans: int, calls: int, tokens: int, refused: int, speeches: int) -> str:
    """One row of the table."""
    _, right, committed = one.figures
    share = one.committed / max(1, one.quotes)
    return (
        f"| {name} | {spans / speeches:.3f} | {calls} | {tokens:,} | {right:.3f} | {share:.3f} | {committed:.3f} "
        f"| {refused} |"
    )


def oracle(accuracy: float, seed: int) -> Answerer:
    """Answers from the annotation, right with this probability; "unknown" for what it does not know."""

    def answer(novel: Novel, asked: Sequence[Window]) -> list[Any]:
        return [{"speakers": [_said(novel, window, n, at) for n, at in enumerate(window.spans, 1)]} for window in asked]

    def _said(novel: Novel, window: Window, number: int, position: int) -> dict[str, Any]:
        rng = random.Random(f"{seed}:{novel.lines[position].line_id}")
        name = novel.gold.get(position, "unknown")
        if rng.random() >= accuracy and name != "unknown":
            others = [
                other for other, also in novel.names.shown(window) if other != name and _in(window.text, other, *also)
            ]
            name = rng.choice(others) if others else "unknown"
        return {"span": number, "name": name}

    return answer


def _in(text: str, *names: str) -> bool:
    return any(name in text for name in names)


def endpoint(options: argparse.Namespace, folder: Path) -> tuple[Answerer, Callable[[], Any]]:
    """Answers of a model, through the journal; and its ledger."""
    from jobs.llm import Call, Service, answer_all
    from understudy.recipe import Endpoint, Recipe
    from understudy.store import Store

    main = Endpoint(base_url=options.base_url, model=options.model, api_key_env=options.api_key_env)
    recipe = Recipe(name="attribution-calls", endpoints={"main": main})
    service = Service.of(recipe, Store.open(folder), "benchmark")

    def answer(novel: Novel, asked: Sequence[Window]) -> list[Any]:
        calls = [Call(question(window, novel.names), SPEAKERS_SCHEMA, {"temperature": 0}) for window in asked]
        return [one.value for one in answer_all(service, calls)]

    return answer, service.ledger


if __name__ == "__main__":
    sys.exit(main())

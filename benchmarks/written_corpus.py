"""A corpus written from a seed, of any size: plays in two layouts, English novels and Chinese ones, and its recipe.

size = write_corpus(folder / "texts", 20_000_000)     # txt, some of it gzip, JSON Lines and Parquet
recipe = write_recipe(folder, workers=None)
"""
# ruff: noqa: SIM905 - words in a row read better than each in quotes

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

MOST_FILE = 30_000_000
CAST = "Anna Bruno Clara Dario Edith Falk Greta Hanno Irma Jasper Kilian Lotte Moritz Nora Otto Paula".split()
HAN_CAST = "林掌柜 阿福 兔先生 王婶 小石头 周大娘 沈先生 梅姑娘".split()
SUBJECTS = "the miller,an old captain,my sister,the lamp,our neighbour,the river,a grey cat,the baker,the moon".split(
    ","
)
VERBS = "waits for,has never seen,counts,forgets,brings home,looks after,laughs at,remembers,would sell".split(",")
OBJECTS = "the bread,a letter,nine boats,the key,the last train,a broken jug,the harbour,the winter,two apples".split(
    ","
)
WHENS = "before the rain,at noon,every spring,without a word,in the end,on the stairs,by the window,too late".split(",")
HAN = ("月亮", "铺子里的灯", "那条河", "老船长", "隔壁的猫", "今年的雨", "一封旧信", "桥上的人")
HAN_DOES = ("慢慢地走远了", "谁也没有看见", "比去年更安静", "总也等不到", "忽然不见了", "还是老样子")
TAGS = ("said", "asked", "answered", "whispered", "replied", "cried")


class Writer:
    """Text without end, from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        pick = self.rng.choice
        self.sentences = [
            f"{pick(SUBJECTS)} {pick(VERBS)} {pick(OBJECTS)} {pick(WHENS)}".capitalize() for _ in range(20_000)
        ]
        self.han = [f"{pick(HAN)}{pick(HAN_DOES)}" for _ in range(2_000)]

    def said(self) -> str:
        """One to four sentences."""
        rng = self.rng
        return " ".join(f"{rng.choice(self.sentences)}{rng.choice('..?!')}" for _ in range(rng.randint(1, 4)))

    def play(self, size: int) -> Iterator[str]:
        """Scenes of a play of about `size` characters: `NAME: line`, or `NAME.` on a row of its own."""
        rng, done, scene = self.rng, 0, 0
        above = rng.random() < 0.4
        people = rng.sample(CAST, 6)
        while done < size:
            scene += 1
            rows = [f"ACT {scene // 8 + 1}", f"Scene {scene % 8 + 1}. A room by the water.", ""]
            for _ in range(40):
                name = rng.choice(people).upper()
                aside = f" ({rng.choice(WHENS)})" if rng.random() < 0.1 else ""
                rows += [f"{name}{aside}.", self.said(), ""] if above else [f"{name}{aside}: {self.said()}"]
            text = "\n".join([*rows, "", ""])
            done += len(text)
            yield text

    def novel(self, size: int) -> Iterator[str]:
        """Chapters of an English novel."""
        rng, done, chapter = self.rng, 0, 0
        left, right = ("“", "”") if rng.random() < 0.5 else ('"', '"')
        people = rng.sample(CAST, 5)
        while done < size:
            chapter += 1
            rows = [f"Chapter {chapter}"]
            for _ in range(80):
                kind = rng.random()
                if kind < 0.35:
                    rows.append(" ".join(self.said() for _ in range(3)))
                elif kind < 0.75:
                    said, more = self.said(), self.said()
                    words = f"{left}{said[:-1]},{right} {rng.choice(TAGS)} {rng.choice(people)}."
                    rows.append(f"{words} {left}{more}{right}" if kind < 0.5 else words)
                else:
                    rows.append(f"{left}{self.said()}{right}")
            text = "\n\n".join([*rows, "", ""])
            done += len(text)
            yield text

    def han_novel(self, size: int) -> Iterator[str]:
        """Chapters of a Chinese novel, of about `size` bytes."""
        rng, done, chapter = self.rng, 0, 0
        while done < size:
            chapter += 1
            rows = [f"第{chapter}回 {rng.choice(self.han)}"]
            for _ in range(60):
                told = "，".join(rng.choice(self.han) for _ in range(rng.randint(2, 6)))
                said = f"{rng.choice(HAN_CAST)}道：“{rng.choice(self.han)}，{rng.choice(self.han)}。”"
                rows.append(f"{told}。{said}" if rng.random() < 0.5 else said)
            text = "\n".join([*rows, "", ""])
            done += 3 * len(text)
            yield text


def write_corpus(folder: Path, size: int, seed: int = 0) -> int:
    """Files of about `size` bytes of text together, in `folder`; how many bytes of text they hold."""
    writer = Writer(seed)
    rng = random.Random(seed + 1)
    done = number = 0
    most = min(MOST_FILE, size // 6)
    while done < size:
        number += 1
        wanted = round(20_000 * (most / 20_000) ** rng.random())
        parts = rng.choice((writer.play, writer.play, writer.novel, writer.novel, writer.han_novel))(wanted)
        form = rng.choices(("txt", "gz", "jsonl", "parquet"), (6, 2, 1, 1))[0]
        done += _written(folder / f"text-{number:05d}", form, parts)
    return done


def _written(path: Path, form: str, parts: Iterator[str]) -> int:
    size = 0

    def counted() -> Iterator[str]:
        nonlocal size
        for part in parts:
            size += len(part.encode())
            yield part

    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(path.with_suffix(".parquet"), schema) as table:
            held: list[str] = []
            for part in counted():
                held.append(part)
                if len(held) == 100:
                    table.write_table(pa.table({"text": held}, schema=schema))
                    held = []
            table.write_table(pa.table({"text": held}, schema=schema))
        return size
    name = path.with_suffix(".txt.gz" if form == "gz" else f".{form}")
    with gzip.open(name, "wb", compresslevel=3) if form == "gz" else name.open("wb") as file:
        for part in counted():
            row = json.dumps({"text": part}, ensure_ascii=False) + "\n" if form == "jsonl" else part
            file.write(row.encode())
    return size


def write_recipe(folder: Path, workers: int | None) -> Path:
    """The recipe of the corpus in `folder`/texts."""
    cast = [{"name": name.lower(), "display_name": name, "aliases": [name.upper()]} for name in CAST]
    cast += [{"name": f"han-{number}", "display_name": name} for number, name in enumerate(HAN_CAST)]
    resources = {"extract": {"workers": workers}} if workers else {}
    recipe = {"name": "scale", "store": "store", "corpus": [{"path": "texts", "column": "text"}], "cast": cast}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({**recipe, "resources": resources}, ensure_ascii=False), "utf-8")
    return path

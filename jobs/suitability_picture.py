"""The suitability of recipients and occasions as a heatmap, for a person to look at and correct."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from understudy.stage_words import is_han

CJK = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei")
CJK += ("PingFang SC", "Heiti SC", "Microsoft YaHei", "SimHei", "Arial Unicode MS", "Droid Sans Fallback")


def png(suitability: Mapping[str, Any]) -> bytes:
    """PNG bytes of what `suitability.json` holds: pairs that are not made are crossed, and where a model rated some,
    scores by hand are framed.

    Without a Chinese font on this machine, axes in Chinese carry the numbers of rows and columns in the table.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    recipients, occasions = suitability["recipients"], suitability["occasions"]
    scores = np.array([[np.nan if s is None else s for s in row] for row in suitability["scores"]], dtype=float)
    size = (min(60.0, 3.0 + 0.5 * len(occasions)), min(60.0, 2.0 + 0.35 * len(recipients)))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(scores, cmap="RdYlBu", vmin=1, vmax=5, aspect="auto")
    figure.colorbar(image, ax=axes, ticks=range(1, 6))
    font = _font([*recipients, *occasions])
    words = {"family": font} if font else {}
    axes.set_xticks(range(len(occasions)), _labels(occasions, font), rotation=60, ha="right", fontproperties=words)
    axes.set_yticks(range(len(recipients)), _labels(recipients, font), fontproperties=words)
    made, pairs = suitability["counts"]["made"], suitability["counts"]["pairs"]
    where = "" if font or not any(map(is_han, [*recipients, *occasions])) else "; numbers as in suitability.csv"
    axes.set_title(f"{made} of {pairs} pairs are made (score {suitability['least']} or more){where}")
    _marks(axes, suitability)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _marks(axes: Any, suitability: Mapping[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    counts = suitability["counts"]
    framed = 0 < counts["by_hand"] < counts["pairs"]
    for i, (row, sources) in enumerate(zip(suitability["scores"], suitability["sources"], strict=True)):
        for j, (score, source) in enumerate(zip(row, sources, strict=True)):
            if score is None:
                continue
            text = f"{score} ×" if score < suitability["least"] else str(score)
            colour = "white" if score in (1, 5) else "black"
            # Left out of the layout: measuring hundreds of texts takes seconds.
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour, in_layout=False)
            if framed and source == "hand":
                frame = Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor="black")
                frame.set_in_layout(False)
                axes.add_patch(frame)


def _font(texts: Iterable[str]) -> str | None:
    """A family of this machine that has Chinese characters, where they are needed."""
    from matplotlib import font_manager

    if not any(map(is_han, texts)):
        return None
    known = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK if name in known), None)


def _labels(names: Iterable[str], font: str | None) -> list[str]:
    return [str(number) if is_han(name) and not font else name for number, name in enumerate(names, 1)]

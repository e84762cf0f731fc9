"""The evaluation matrix as a picture: raw and column-centred side by side."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jobs.matrix import Estimate, Matrix

_NUMBERS_UP_TO = 14


def png(matrix: Matrix) -> bytes:
    """PNG bytes; the own adapter's cell is framed. The same matrix gives the same bytes with the same matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(matrix.rows), len(matrix.columns)
    size = (min(40.0, 3.5 + 0.9 * columns) * 2, min(30.0, 2.0 + 0.55 * rows))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    titles = ("nats per token (lower is likelier)", "less each column's mean")
    for axes, title, values in zip(figure.subplots(1, 2), titles, (matrix.raw, matrix.centred), strict=True):
        grid = _grid(matrix, values)
        image = axes.imshow(grid, cmap="viridis_r", aspect="auto")
        figure.colorbar(image, ax=axes)
        axes.set_title(title)
        axes.set_xlabel("spoken by")
        axes.set_ylabel("lines of")
        axes.set_xticks(range(columns), matrix.columns, rotation=45, ha="right")
        axes.set_yticks(range(rows), matrix.rows)
        _mark(axes, matrix, grid)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _grid(matrix: Matrix, values: dict[str, dict[str, Estimate]]) -> np.ndarray:
    found = [[values[row][column].value if column in values[row] else np.nan for column in matrix.columns]
             for row in matrix.rows]  # fmt: skip
    return np.array(found, dtype=float)


def _mark(axes: Any, matrix: Matrix, grid: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    middle = np.nanmean(grid)
    for i, row in enumerate(matrix.rows):
        for j, column in enumerate(matrix.columns):
            if row == column:
                axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, fill=False, edgecolor="red", linewidth=2))
            if len(matrix.columns) <= _NUMBERS_UP_TO and not np.isnan(grid[i, j]):
                colour = "white" if grid[i, j] > middle else "black"
                axes.text(j, i, f"{grid[i, j]:.2f}", ha="center", va="center", color=colour, fontsize=9)

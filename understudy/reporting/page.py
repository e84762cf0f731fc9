"""The report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from understudy.reporting.figures import heat
from understudy.wording import counted

TEMPLATE = Path(__file__).parent / "report.html"


def render(report: Mapping[str, Any]) -> str:
    """HTML of a report document (jobs/report.py says what is in it); every text of it is escaped."""
    return _template().render(report=report, heat=heat)


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    environment.filters["percent"] = lambda share: f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"
    environment.filters["counted"] = counted
    environment.filters["duration"] = _duration
    return environment.from_string(TEMPLATE.read_text("utf-8"))


def _number(value: Any) -> str:
    """12345 as 12,345; money and the like with what digits they have, at most four."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4f}".rstrip("0").rstrip(".")
    return f"{int(value):,}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"

"""The report's page, of a small production that no cluster made."""

from __future__ import annotations

import re
from pathlib import Path

from jobs.report import run_report
from tests.production import small_production
from understudy.wording import counted, one_line, shortened


def test_the_page_says_one_work_and_more_works(tmp_path: Path):
    recipe, store = small_production(tmp_path)
    run_report(recipe)
    page = store.get(f"runs/{recipe.name}/report.html").decode()
    assert re.findall(r">([\d,]+ works?)<", page) == ["1 work"]
    assert not re.findall(r"\b1 (?:works|scenes|lines|pairs|scores|conversations)\b", page)
    assert [counted(number, "work") for number in (0, 1, 1200)] == ["0 works", "1 work", "1,200 works"]


def test_what_others_say_is_one_line_that_shows_where_it_was_cut():
    assert one_line("a\n b  c", 3) == "a b"
    assert shortened("a\n b  c", 3) == "a b..."
    assert shortened("a\n b", 3) == "a b"
    assert shortened(ValueError()) == "ValueError"

"""The matrix says what the numbers say: intervals against known values, and verdicts on planted casts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jobs.matrix import BASE, PROMPTED, Cell, judge, measure, others_of, resample, table
from jobs.picture import png


def cell(values: list[float], tokens: list[int] | None = None) -> Cell:
    """Nats per token of each conversation, of 10 tokens unless said otherwise."""
    counts = tokens or [10] * len(values)
    ids = tuple(f"c{i}" for i in range(len(values)))
    return Cell(ids, tuple(value * n for value, n in zip(values, counts, strict=True)), tuple(counts))


def planted(own: float, prompted: float, conversations: int = 12) -> dict[str, Cell]:
    """A row of adam whose conversations differ in difficulty by far more than the columns do."""
    hard = np.random.default_rng(0).uniform(1, 5, conversations)
    return {
        BASE: cell(list(hard + 0.3)),
        PROMPTED: cell(list(hard + prompted)),
        "adam": cell(list(hard + own)),
        "eve": cell(list(hard + 0.2)),
    }


def test_a_value_is_nats_per_token_over_all_conversations_and_not_the_mean_of_their_means():
    assert cell([1.0, 4.0], [30, 10]).value == pytest.approx(1.75)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(3, 0.5, 200)
    draws = resample("adam", {BASE: cell(list(values))}, 4000, 0)[BASE]
    error = values.std() / np.sqrt(200)
    low, high = np.percentile(draws, [2.5, 97.5])
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng, inside = np.random.default_rng(2), 0
    for trial in range(200):
        drawn = {PROMPTED: cell(list(rng.normal(3, 1, 40))), BASE: cell([1.0] * 40), "adam": cell([2.5] * 40)}
        gain = judge("adam", drawn, 400, seed=trial).gain
        inside += gain.low is not None and gain.high is not None and gain.low <= 0.5 <= gain.high
    assert 0.88 <= inside / 200 <= 0.99


def test_the_gain_is_paired_so_hard_conversations_do_not_hide_it():
    verdict = judge("adam", planted(own=0.0, prompted=0.05))
    assert verdict.gain.value == pytest.approx(0.05)
    assert verdict.gain.low == pytest.approx(0.05)
    assert verdict.beats_prompted
    assert verdict.own_best
    assert not verdict.prompt_only


def test_an_adapter_worse_than_the_prompted_base_is_reported_and_prompt_only_is_offered():
    verdict = judge("adam", planted(own=0.1, prompted=0.0))
    assert not verdict.beats_prompted
    assert verdict.prompt_only
    assert not verdict.own_best
    assert verdict.text.startswith("adam: the adapter does not beat the prompted base: it is worse than it, -0.100")
    assert "prompt-only is offered" in verdict.text


def test_an_advantage_within_the_noise_does_not_count_as_one():
    noise = np.random.default_rng(3).normal(0, 1, 10)
    row = planted(own=0.0, prompted=0.0, conversations=10)
    own = np.array(row["adam"].nll) + 10 * (noise - noise.mean() - 0.05)
    row["adam"] = Cell(row["adam"].conversations, tuple(own), row["adam"].tokens)
    verdict = judge("adam", row)
    assert verdict.gain.value == pytest.approx(0.05)
    assert verdict.prompt_only
    assert "not clearly better" in verdict.text


def test_one_held_out_conversation_has_no_interval_and_proves_nothing():
    verdict = judge("adam", {BASE: cell([3.0]), PROMPTED: cell([3.0]), "adam": cell([1.0])})
    assert (verdict.gain.low, verdict.gain.high, verdict.prompt_only) == (None, None, True)
    assert "too few to tell" in verdict.text


def test_an_adapter_that_is_better_at_everything_is_seen_through_by_centring():
    """Eve's adapter is the better one on both rows; less its mean, each adapter is best for its own persona."""
    rows = {
        "adam": {BASE: cell([3.0, 3.2]), PROMPTED: cell([2.9, 3.0]), "adam": cell([2.5, 2.5]), "eve": cell([2.4, 2.4])},
        "eve": {BASE: cell([3.0, 3.2]), PROMPTED: cell([2.9, 3.0]), "adam": cell([2.9, 2.9]), "eve": cell([2.0, 2.0])},
    }
    matrix = measure(rows)
    assert matrix.verdicts["adam"].best == "eve"
    assert "the adapter of eve is better on these lines" in matrix.verdicts["adam"].text
    assert {row: min(("adam", "eve"), key=lambda c: matrix.centred[row][c].value) for row in rows} == {
        "adam": "adam",
        "eve": "eve",
    }
    for column in matrix.columns:
        assert sum(matrix.centred[row][column].value for row in rows) == pytest.approx(0)


def test_another_persona_in_the_cast_changes_no_raw_number_of_a_row():
    adam = planted(own=0.0, prompted=0.1)
    eve = {BASE: cell([1.0, 2.0]), PROMPTED: cell([1.0, 2.0]), "eve": cell([0.5, 1.0]), "adam": cell([1.0, 1.5])}
    alone, both = measure({"adam": adam}, seed=5), measure({"adam": adam, "eve": eve}, seed=5)
    assert both.raw["adam"] == alone.raw["adam"]
    assert both.verdicts["adam"] == alone.verdicts["adam"] == judge("adam", adam, seed=5)


def test_the_same_seed_gives_the_same_matrix_and_another_seed_other_intervals():
    row = {"adam": planted(own=0.0, prompted=0.1)}
    assert measure(row, seed=1) == measure(row, seed=1)
    assert measure(row, seed=1).raw["adam"][BASE] != measure(row, seed=2).raw["adam"][BASE]


def test_cells_of_different_conversations_are_refused():
    with pytest.raises(ValueError, match="adam: its cells are of different conversations"):
        judge("adam", {BASE: cell([1.0]), PROMPTED: cell([1.0, 2.0]), "adam": cell([1.0])})


def test_a_row_compares_against_all_others_up_to_the_limit_and_then_against_a_stable_sample():
    cast = [f"p{i}" for i in range(60)]
    assert others_of("p3", cast[:32], 31, 0) == [name for name in cast[:32] if name != "p3"]
    sample = others_of("p3", cast, 31, 0)
    assert len(sample) == 31
    assert "p3" not in sample
    assert len(set(sample) - set(others_of("p3", [*cast, "new"], 31, 0))) <= 1
    assert others_of("p4", cast, 31, 0) != sample


def test_the_matrix_is_shown_as_text_json_and_picture():
    rows = {"adam": planted(own=0.0, prompted=0.1), "eve": {**planted(own=0.3, prompted=0.1), "eve": cell([1.0] * 12)}}
    rows["adam"].pop("eve")
    matrix = measure(rows)
    text = table(matrix)
    assert text.splitlines()[1].split() == ["persona", BASE, PROMPTED, "adam", "eve"]
    assert "*" in text
    assert " - " in text.splitlines()[2] + " "
    assert json.loads(json.dumps(matrix.as_json()))["verdicts"]["adam"]["prompt_only"] is False
    picture = png(matrix)
    assert picture.startswith(b"\x89PNG")
    assert picture == png(matrix)


def test_a_large_cast_is_shown_in_a_line_each():
    names = [f"p{i}" for i in range(20)]
    rows = {name: {c: cell([2.0 + (c != name), 2.0]) for c in (BASE, PROMPTED, *names)} for name in names}
    lines = table(measure(rows, bootstrap=100)).splitlines()
    assert lines[1].split() == ["persona", BASE, PROMPTED, "own", "best", "other"]
    assert max(map(len, lines[:21])) <= 100

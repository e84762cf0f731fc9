"""Names of one person: short forms of a cast, and what is proposed for names that were found."""

from __future__ import annotations

from understudy.aliases import propose, short_forms


def groups(**lines: int) -> set[frozenset[str]]:
    return {frozenset((one.name, *one.aliases)) for one in propose({k.replace("_", " "): v for k, v in lines.items()})}


def test_a_surname_alone_is_the_man_and_a_miss_of_that_name_stays_herself() -> None:
    found = groups(**{"Mr._Darcy": 90, "Darcy": 40, "Fitzwilliam_Darcy": 1, "Miss_Darcy": 3})
    assert found == {frozenset(("Mr. Darcy", "Darcy", "Fitzwilliam Darcy")), frozenset(("Miss Darcy",))}


def test_a_couple_of_one_surname_is_two_people() -> None:
    assert groups(**{"Mr._Bennet": 30, "Mrs._Bennet": 40}) == {frozenset(("Mr. Bennet",)), frozenset(("Mrs. Bennet",))}


def test_pet_names_and_polite_forms_go_to_the_given_name() -> None:
    found = groups(Elizabeth=200, Lizzy=9, Miss_Elizabeth=4, Jane=50)
    assert frozenset(("Elizabeth", "Lizzy", "Miss Elizabeth")) in found


def test_a_form_that_may_be_two_people_is_nobodys() -> None:
    assert len(groups(Anne_Hill=5, Anne_Wood=6, Anne=7)) == 3
    assert "Anne" not in short_forms({"Anne Hill": "hill", "Anne Wood": "wood"})


def test_things_that_share_a_word_are_not_put_together() -> None:
    assert len(groups(Chor=5, Chor_der_Engel=6)) == 2


def test_a_chinese_given_name_goes_to_the_one_full_name_and_written_pairs_are_one() -> None:
    found = groups(宝玉=100, 贾宝玉=20, 王夫人=9, 夫人=2, **{"华妃/年妃": 10, "华妃": 3, "年妃": 4})
    assert frozenset(("宝玉", "贾宝玉")) in found
    assert frozenset(("华妃/年妃", "华妃", "年妃")) in found
    assert frozenset(("王夫人",)) in found


def test_a_lady_by_her_given_name_is_not_another_of_that_name() -> None:
    found = groups(Lady_Margaret=40, Margaret=6, Peggy=5, Lady_Margaret_de_Vere=2)
    assert found == {frozenset(("Lady Margaret", "Lady Margaret de Vere")), frozenset(("Margaret", "Peggy"))}
    assert groups(Sir_George=9, George=4) == {frozenset(("Sir George",)), frozenset(("George",))}
    forms = short_forms({"Lady Margaret de Vere": "lady", "Anne Hill": "anne"})
    assert forms["Lady Margaret"] == "lady"
    assert "Margaret" not in forms
    assert forms["Anne"] == "anne"


def test_a_mother_is_not_the_daughter_whom_the_text_calls_by_her_given_name() -> None:
    found = groups(**{"Mrs._Wood": 9, "Jane_Wood": 3, "Jane": 30})
    assert found == {frozenset(("Mrs. Wood",)), frozenset(("Jane", "Jane Wood"))}
    assert groups(**{"Mrs._Wood": 9, "Jane_Wood": 3}) == {frozenset(("Mrs. Wood", "Jane Wood"))}


def test_a_described_name_is_the_name() -> None:
    found = groups(**{"Mrs._Hill": 9, "the_weary_Mrs._Hill": 1, "the_White_Goose": 2, "Goose": 5})
    assert frozenset(("Mrs. Hill", "the weary Mrs. Hill")) in found
    assert frozenset(("the White Goose",)) in found


def test_what_stands_before_a_chinese_name_may_make_it_another_one() -> None:
    lines = {"青山": 90, "假青山": 3, "秋云": 20, "谓秋云": 4, "柳秋云": 5, "知府": 30, "马知府": 2}
    found = {frozenset((one.name, *one.aliases)) for one in propose(lines)}
    assert {frozenset(("青山",)), frozenset(("假青山",)), frozenset(("知府",)), frozenset(("马知府",))} <= found


def test_a_chinese_name_with_a_fond_ending_is_the_name_and_crowds_are_nobody() -> None:
    lines = {"秋姐": 9, "秋姐儿": 4, "平儿": 8, "众人": 70, "诸将": 5, "二人": 6, "丫鬟们": 3, "诸葛云": 2}
    found = {frozenset((one.name, *one.aliases)) for one in propose(lines)}
    assert found == {frozenset(("秋姐", "秋姐儿")), frozenset(("平儿",)), frozenset(("诸葛云",))}


def test_every_name_is_in_one_row_and_lines_add_up() -> None:
    lines = {"Mr. Hill": 4, "Hill": 3, "Mrs. Hill": 2, "Tom": 9, "Thomas Wood": 1, "the cat": 5, "her father": 7}
    found = propose(lines)
    names = [name for one in found for name in (one.name, *one.aliases)]
    assert sorted(names) == sorted(set(lines) - {"her father"})
    assert sum(one.lines for one in found) == sum(lines.values()) - 7


def test_short_forms_mean_the_owner_and_never_replace_a_name() -> None:
    forms = short_forms({"Fitzwilliam Darcy": "d", "Miss Darcy": "g", "Darcy": "x"})
    assert "Darcy" not in forms
    assert forms["Fitzwilliam"] == "d"

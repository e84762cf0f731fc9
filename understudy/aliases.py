"""One person under several names: `Mr. Darcy`, `Darcy`, `Fitzwilliam Darcy`; `宝玉`, `贾宝玉`.

    short_forms({"Fitzwilliam Darcy": "darcy"})     # {"Darcy": "darcy", "Fitzwilliam": "darcy", "Mr. Darcy": "darcy"}
    propose({"Mr. Darcy": 90, "Darcy": 40, "Miss Darcy": 3})   # [Merged("Mr. Darcy", ("Darcy",), 130), Merged("Miss ...

A form is taken only where it can mean one person. What is proposed is a table for a person to correct: titles that
change with the years (`华妃`, `年妃`) cannot be told from the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from understudy.given_names import GIVEN
from understudy.speech_words import OWNERS, TITLES

_NICK_TEXT = """lizzy:elizabeth eliza:elizabeth lizzie:elizabeth beth:elizabeth betsy:elizabeth bess:elizabeth
    kitty:catherine kate:catherine cathy:catherine tom:thomas tommy:thomas bill:william will:william billy:william
    willie:william bob:robert bobby:robert rob:robert dick:richard jack:john johnny:john jim:james jimmy:james
    joe:joseph joey:joseph ned:edward ted:edward teddy:edward eddie:edward harry:henry hal:henry charley:charles
    charlie:charles fred:frederick freddy:frederick ben:benjamin sam:samuel dan:daniel mike:michael nick:nicholas
    peggy:margaret maggie:margaret meg:margaret madge:margaret molly:mary polly:mary nelly:ellen nellie:ellen
    fanny:frances sally:sarah nancy:anne annie:anne susy:susan susie:susan becky:rebecca dolly:dorothy dora:dorothea
    jenny:jane hetty:hester harriet:harriet hattie:harriet matt:matthew phil:philip andy:andrew tony:anthony
    lottie:charlotte winnie:winifred connie:constance archie:archibald bertie:albert tess:theresa jo:josephine
    amy:amelia nat:nathaniel hugh:hugo larry:laurence laurie:laurence toby:tobias tim:timothy alec:alexander
    sandy:alexander ellie:eleanor nora:eleanor"""
_NICK = {short: whole for short, _, whole in (pair.partition(":") for pair in _NICK_TEXT.split())}
_PARTICLES = frozenset(("de", "of", "von", "van", "la", "le", "du", "der", "the", "and"))
_GENDERED = {"m": ("Mr.", "Mr"), "f": ("Miss",)}


@dataclass(frozen=True, slots=True)
class Merged:
    """Names that seem to be one person's."""

    name: str
    """The one with the most lines."""
    aliases: tuple[str, ...]
    """The others, most lines first."""
    lines: int


@dataclass(frozen=True, slots=True)
class _Parts:
    title: str
    gender: str
    words: tuple[str, ...]


def _parts(name: str) -> _Parts:
    words = name.replace(".", ". ").split()
    title, gender = "", ""
    while words and (words[0].lower().rstrip(".") in _BARE or (len(words) > 1 and words[0].lower() in TITLES)):
        title = title or words[0].rstrip(".")
        gender = gender or TITLES.get(words[0].lower(), "")
        words = words[1:]
        if not words:
            break
    gender = gender or (GIVEN.get(words[0].casefold(), "") if words else "")
    return _Parts(title.casefold(), gender, tuple(word for word in words if word[:1].isupper()))


_GROWN = frozenset(("mr", "mrs", "lady", "sir"))
_STYLES = frozenset(("lady", "sir", "dame"))
"""Titles that stand before a given name and are not left away."""
_BARE = frozenset(("mr", "mrs", "ms", "dr", "st"))


def short_forms(names: Mapping[str, str]) -> dict[str, str]:
    """Shorter forms of the names of a cast, each with the one person whom it can mean; none that is already a name."""
    taken = {name.casefold() for name in names}
    men: dict[str, set[str]] = {}
    found: dict[str, set[str]] = {}
    for name, owner in names.items():
        parts = _parts(name)
        if not parts.words or any(len(word) < 2 for word in parts.words):
            continue
        last = parts.words[-1]
        if parts.gender == "m":
            men.setdefault(last, set()).add(owner)
        forms = {last}
        if len(parts.words) > 1:
            first = parts.words[0]
            forms |= {f"{name.split()[0]} {first}" if parts.title in _STYLES else first, f"{first} {last}"}
            if not parts.title:  # a given name that is not known is more often a man's, and a surname as such
                forms |= {f"{title} {last}" for title in _GENDERED[parts.gender or "m"]}
        if parts.title and len(parts.words) > 1:
            forms.add(f"{name.split()[0]} {last}")
        for form in forms:
            if form.casefold() not in taken and form.casefold() not in TITLES:
                found.setdefault(form, set()).add(owner)
    single: dict[str, str] = {}
    for form, owners in found.items():
        if len(owners) == 1:
            single[form] = next(iter(owners))
        elif len(bearers := men.get(form, set()) & owners) == 1:
            single[form] = next(iter(bearers))
    return single


def propose(lines: Mapping[str, int]) -> list[Merged]:
    """Which of the names found may be one person's, most lines first; every name is in exactly one row.

    `her father` and `众人` are nobody's names and are left out.
    """
    lines = {
        name: count for name, count in lines.items() if name.split(" ")[0] not in OWNERS and not _CROWD.fullmatch(name)
    }
    roots = {name: name for name in lines}
    genders = {name: {_parts(name).gender} for name in lines}

    def root(name: str) -> str:
        while roots[name] != name:
            name = roots[name]
        return name

    for short, whole in [*_latin_pairs(lines), *_described_pairs(lines), *_han_pairs(lines), *_written_pairs(lines)]:
        one, other = root(short), root(whole)
        if one != other and not {"m", "f"} <= genders[one] | genders[other]:
            roots[one] = other
            genders[other] |= genders[one]
    groups: dict[str, list[str]] = {}
    for name in lines:
        groups.setdefault(root(name), []).append(name)
    found = []
    for group in groups.values():
        ranked = sorted(group, key=lambda name: (-lines[name], name))
        found.append(Merged(ranked[0], tuple(ranked[1:]), sum(lines[name] for name in group)))
    return sorted(found, key=lambda merged: (-merged.lines, merged.name))


def _latin_pairs(lines: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    """(name, fuller name) for names of letters, where only one fuller name fits."""
    parsed = {name: _parts(name) for name in lines if name[:1].isupper() and name[:1].isascii()}
    plain = {parts.words[0] for parts in parsed.values() if len(parts.words) == 1 and not parts.title}
    for name, parts in parsed.items():
        fitting = [
            other
            for other, theirs in parsed.items()
            if other != name and len(parts.words) == 1 and theirs.words and _may_be(parts, theirs)
        ]
        if parts.title in _GROWN:  # whom a text calls Jane is not Mrs. Hill in it: that is her mother
            fitting = [other for other in fitting if parsed[other].title or parsed[other].words[0] not in plain]
        if parts.words and not parts.title:  # a bare surname is the man's whom the text also calls Mr.
            men = [other for other in fitting if parsed[other].gender == "m" and parsed[other].words[-1] in parts.words]
            fitting = men or fitting
        if fitting and len({parsed[other].words for other in fitting}) == 1:
            yield name, max(fitting, key=lambda other: (lines[other], other))


def _may_be(short: _Parts, whole: _Parts) -> bool:
    """Whether a name of one word may be a form of another name; one of the two must look like a person's."""
    if not (short.title or whole.title or {short.words[0].casefold(), whole.words[0].casefold()} & GIVEN.keys()):
        return False
    if short.gender and whole.gender and short.gender != whole.gender:
        return False
    if {short.title, whole.title} == {"miss", "mrs"}:
        return False
    word = short.words[0]
    if short.title == whole.title and whole.title in _STYLES:
        return word in (whole.words[0], whole.words[-1])
    if (short.title in _STYLES or whole.title in _STYLES) and (word.casefold() in GIVEN or word != whole.words[-1]):
        return False  # nobody whom a text calls Lady Catherine is Catherine in it
    if len(whole.words) == 1:
        same = word == whole.words[0]
        nick = not short.title and not whole.title and _NICK.get(word.casefold()) == whole.words[0].casefold()
        if short.title and not whole.title:
            return same and word.casefold() in GIVEN
        return nick or (same and short.title != whole.title and (not short.title or bool(whole.gender)))
    if short.title and short.title not in ("miss", "aunt", "uncle", "old", "little", "poor", "dear", "young"):
        return word == whole.words[-1]
    return word in (whole.words[0], whole.words[-1]) or _NICK.get(word.casefold()) == whole.words[0].casefold()


def _described_pairs(lines: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    """(described name, name) for `the weary Anna`, where Anna speaks too."""
    for name in lines:
        match = re.fullmatch(r"(?:the|an?|this|that) (?:[a-z-]+ )+([A-Z].*)", name)
        if match and match.group(1) in lines:
            yield name, match.group(1)


def _han_pairs(lines: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    """(name, fuller name) for Chinese names: a given name of two characters and the one full name that ends with it.

    `凤姐儿` is `凤姐`.
    """
    han = [name for name in lines if re.fullmatch(r"[\u4e00-\u9fff]{2,4}", name)]
    for name in han:
        if len(name) > 2 and name[-1] == "儿" and name[:-1] in lines:
            yield name, name[:-1]
        fuller = [other for other in han if len(other) == len(name) + 1 and other.endswith(name)]
        if len(name) == 2 and len(fuller) == 1 and name not in _HAN_TITLES and fuller[0][0] not in _NO_SURNAME:
            yield name, fuller[0]


_NO_SURNAME = frozenset("忽众诸各某假真老小大新旧这那里一二两三几谓对与问见望唤教指告叫请命跟同把被将劝骂拉扶使遣")
"""What before a name makes another person of it (`假唐僧`), a crowd, or tells what is done to its bearer."""
_CROWD = re.compile(
    r"(?:众|诸(?!葛)).{1,3}|[一二两三四五六七八九十几][个人]|两个人|大家|左右|[\u4e00-\u9fff]{1,4}[们等]"
)
"""Several people at once."""
_HAN_TITLES_TEXT = """夫人 太太 奶奶 姑娘 小姐 公子 老爷 先生 太后 皇后 皇上 贵妃 贵人 娘娘 嬷嬷 妈妈 将军 丞相
    师父 大人 大王 员外 太监 公公
    知府 知县 太守 府尹 太尉 员外 衙内 管营 提辖 都头 长老 真君
    行者 和尚 道人 道士 长老 菩萨 国王 老母 老者 老儿 婆婆 哥哥 姐姐 妹妹 兄弟 母亲 父亲"""
_HAN_TITLES = frozenset(_HAN_TITLES_TEXT.split())


def _written_pairs(lines: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    """Names that a text itself writes as one: `华妃/年妃`, `年妃（华妃）`."""
    for name in lines:
        for part in re.split(r"[/／|（()）]", name):
            if part and part != name and part in lines:
                yield part, name

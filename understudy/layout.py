"""How scripts are set on the page: rows, headings, brackets, and the cue that names who speaks.

A *cue* is the part of a row that names the speaker (`NAME:`, `NAME (leise).`). Four layouts differ in it:

    colon   NAME (direction): speech        also full-width, `；` for `：`, **NAME:**, name and speech on two rows
    block   NAME (direction).               alone on its row, the speech in the rows below
    dot     NAME (direction). Speech        on one row
    tab     NAME<tab>speech

Every pattern here is anchored at the start of a row and bounded, so reading stays linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

LAYOUTS = ("colon", "block", "dot", "tab")
SAMPLE_ROWS = 200
"""Rows in each of the three stretches looked at to detect a layout; a work keeps one."""


OPENING = {"(": ")）", "（": "）)", "[": "]］", "［": "］]", "【": "】", "〔": "〕"}
"""Opening brackets, and what may close each."""


class Row(NamedTuple):
    """One row without its surrounding space; `start` is its offset in the work."""

    start: int
    body: str


class Cue(NamedTuple):
    """Offsets count from the start of the row; the directions of the cue lie in [directions, directions_end)."""

    name: str
    directions: int
    directions_end: int
    speech: int


def flatten(text: str) -> str:
    """The same number of characters, every kind of line end made one `\\n`, marks that do not print made spaces."""
    if "\r" in text:
        text = text.replace("\r\n", " \n").replace("\r", "\n")
    return text.translate(_BREAKS) if _UNUSUAL.search(text) else text


_UNUSUAL = re.compile("[\v\f\x85\u2028\u2029\ufeff\u200b]")
_BREAKS = str.maketrans(dict.fromkeys("\v\f\x85\u2028\u2029", "\n") | dict.fromkeys("\ufeff\u200b", " "))


def rows(flat: str) -> list[Row]:
    """The rows of a flattened text, blank ones included (with an empty body).

    A bracket that opens a row and closes in one of the next rows makes them one.
    """
    found: list[Row] = []
    start, joined = 0, 0
    lines = flat.split("\n")
    for number, line in enumerate(lines):
        body = line.strip()
        if joined:
            joined -= 1
            first = found[-1].start
            found[-1] = Row(first, flat[first : start + len(line)].rstrip())
        else:
            indent = len(line) - len(line.lstrip()) if body and line[0] != body[0] else 0
            found.append(Row(start + indent, body))
            if body and body[0] in OPENING and not any(mark in body for mark in OPENING[body[0]]):
                joined = _rows_to_close(lines, number, OPENING[body[0]])
        start += len(line) + 1
    return found


def _rows_to_close(lines: list[str], number: int, closing: str) -> int:
    for more, line in enumerate(lines[number + 1 : number + 13], start=1):
        if not line.strip():
            return 0
        if any(mark in line for mark in closing):
            return more if line.rstrip(" .。*_\t").endswith(tuple(closing)) else 0
    return 0


# Brackets -------------------------------------------------------------------------------------------------------

_SAME = dict(zip("(（)）[［]］【】〔〕", "(())[[]]【】〔〕", strict=True))
_BRACKET = re.compile(r"[()（）\[\]［］【】〔〕]")
_CLOSES = {"(": ")", "[": "]", "【": "】", "〔": "〕"}


def brackets(text: str) -> list[tuple[int, int]]:
    """Outermost balanced bracket groups as (start, end); a full-width bracket may close a half-width one."""
    groups: list[tuple[int, int]] = []
    stack: list[tuple[str, int]] = []
    for match in _BRACKET.finditer(text):
        mark = _SAME[match.group()]
        if mark in _CLOSES:
            stack.append((_CLOSES[mark], match.start()))
        elif stack and stack[-1][0] == mark:
            _, start = stack.pop()
            while groups and groups[-1][0] > start:
                groups.pop()
            groups.append((start, match.end()))
    return groups


def bracketed(body: str) -> bool:
    """Whether the whole row is one or more bracket groups and nothing else but space and marks."""
    if body[0] not in OPENING and body[0] not in "*_":
        return False
    last = body.rstrip(" .。*_")
    if not last or last[-1] not in ")）]］】〕":
        return False
    rest, at = [], 0
    for start, end in brackets(body):
        rest.append(body[at:start])
        at = end
    rest.append(body[at:])
    return at > 0 and not "".join(rest).strip(" .。,，*_-–—")


# Headings -------------------------------------------------------------------------------------------------------

_HAN_NUMBER = r"[0-9０-９零〇一二三四五六七八九十百千两]{1,8}"
_NUMBER = r"(?:[ivxlc]{1,7}|[0-9]{1,4})(?![^\W\d_])"
_GERMAN = (
    r"(?:\d{1,3}\.|[ivxlc]{1,7}\.?|(?:\w{0,20}(?:erste|zweite|zweyte|dritte|vierte|fünfte|sechste|siebente|siebende|"
    r"siebte|achte|neunte|zehnte|zehende|eilfte|elfte|zwölfte|zwölffte|letzte|nächste)|\w{2,12}zehnte|\w{2,16}zigste|"
    r"andere)[rs]?)"
)
_ENGLISH = (
    r"(?:the\s+)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|one|two|three|four|five)"
)
_FRENCH = r"(?:premi[eè]re?|seconde?|derni[eè]re?|unique|\w{3,14}i[eè]me|première|l?['’]?unique)"
_RUSSIAN = r"(?:перв|втор|трет|четв[её]рт|пят|шест|седьм|восьм|девят|десят|\w{3,10}надцат|последн)\w{1,3}"
_SPANISH = r"(?:primer|segund|tercer|cuart|quint|sext|s[eé]ptim|octav|noven|d[eé]cim|[uú]ltim|prim|second|terz|quart|sest)[aoe]?"
_HEADING = re.compile(
    rf"""(?:\#{{1,6}}\s+\S
    |[【\[（(《「]?\s*第\s*{_HAN_NUMBER}\s*[幕场場集回折出景节節章部](?![\u4e00-\u9fff]*[，。！？])
    |[【\[]?(?:序幕|尾声|尾聲|楔子|引子|终幕|終幕|幕间|幕間|序场|序場|场景\s*{_HAN_NUMBER}|場景\s*{_HAN_NUMBER})[】\]]?(?![\u4e00-\u9fff])
    |{_HAN_NUMBER}[-—.、\s]+.{{0,12}}?[日夜晨昏]?\s*[内外內](?:景)?(?:\s|$|[.。：:])
    |[\[(]?\s*(?:\w{{1,4}},\s*)?(?:act|scene|scena|szene|auftritt|aufzug|akt|bild|acte|sc[eè]ne|tableau|acto|jornada|escena|cuadro|atto
        |действие|явление|акт|сцена|картина|part|chapter)\s+(?:{_NUMBER}|{_ENGLISH}\b|{_FRENCH}\b|{_RUSSIAN}\b|{_SPANISH}\b)
    |{_GERMAN}\s+(?:aufzug|auftritt|aufftritt|akt|act|szene|scene|handlung|abhandlung|abteilung|abtheilung|bild|teil|theil|verwandlung|vorgang|szenengruppe)\b
    |{_ENGLISH}\s+(?:act|scene|part)\b
    |(?:{_FRENCH}|{_SPANISH})\s+(?:acte|sc[eè]ne|journ[eé]e|tableau|acto|jornada|escena|cuadro|atto|scena)\b
    |{_RUSSIAN}\s+(?:действие|явление|акт|сцена|картина|часть)\b
    |(?:int|ext|int\./ext)\.\s+\S
    |(?:prologue|epilogue|prolog|epilog|vorspiel|nachspiel|zwischenspiel|induction|interlude|intermezzo|pr[oó]logo|ep[ií]logo|пролог|эпилог
        |vorrede|vorwort|preface|введение)\s*\.?$)""",
    re.IGNORECASE | re.VERBOSE,
)
_HEADING_LIMIT = 120
_HEADING_STARTS = frozenset("#[(【（《「第序尾楔引终終幕场場0123456789０１２３４５６７８９零〇一二三四五六七八九十百千两")
_HEADING_WORDS = frozenset(
    "act scene scena szene auftritt aufzug aufftritt akt bild acte scène tableau acto jornada escena cuadro atto "
    "действие явление акт сцена картина часть part chapter handlung abhandlung abteilung abtheilung teil theil "
    "verwandlung vorgang szenengruppe journée journee int ext int./ext prologue epilogue prolog epilog vorspiel "
    "nachspiel zwischenspiel induction interlude intermezzo prólogo prologo epílogo epilogo пролог эпилог vorrede "
    "vorwort preface введение".split()
)
_CAST_LIST = re.compile(
    r"[\[【(*_#\s]*(?:dramatis personae|(?:the )?persons (?:of|in) the (?:play|drama)|persons represented|cast(?: of characters)?"
    r"|(?:list of )?characters(?: (?:of|in) the play)?|(?:die )?(?:handelnde[n]? )?personen(?: des st(?:ü|ue)cks)?|personenverzeichnis"
    r"|(?:les )?personnages|(?:les )?acteurs|personajes|personas|personaggi|interlocutori|действующие лица|лица"
    r"|(?:主要|出场|登场|剧中)?(?:人物|角色)(?:表|介绍|列表)?|剧中人|演员表)[\]】)*_\s]*[.:：。]?[\]】)*_\s]*",
    re.IGNORECASE,
)


def is_heading(body: str) -> bool:
    """Whether the words of a row make it the heading of an act, a scene or the like."""
    if len(body) > _HEADING_LIMIT:
        return False
    if body[0] not in _HEADING_STARTS:
        words = body[:48].lower().split(None, 3)[:3]
        if not any(word.strip(".,:;()[]*_") in _HEADING_WORDS for word in words):
            return False
    return _HEADING.match(body) is not None


def is_cast_list(body: str) -> bool:
    """Whether a row opens a list of characters, as `Personen:` or `人物表` do."""
    return len(body) < 60 and _CAST_LIST.fullmatch(body) is not None


# Names ----------------------------------------------------------------------------------------------------------

_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_SETTING = re.compile(
    r"(?:时间|時間|地点|地點|时|地|景|人物|人|场景|場景|布景|背景|幕|剧名|片名|编剧|作者|导演|主演|译者|主题|类型|字幕|注|备注|说明|简介|来源|标题"
    r"|title|author|editor|translator|language|release date|posting date|produced by|credits|date|time|place|setting|scene|location|note|source|url|https?"
    r"|ort|ort der handlung|ort und zeit|zeit|zeit der handlung|szene|scene|schauplatz|titel|autor|verfasser|quelle|anmerkung|personen"
    r"|titre|auteur|lieu|la sc[eè]ne est.{0,40}|personnages|место|место действия|время|действующие лица)",
    re.IGNORECASE,
)
_TELLS = re.compile(
    r"(?:[我你他她它您咱](?!们?$)|(?:.*(?:说|說|问道|答道|笑道|喊道|叫道|说道|想|曰|心想|写道|如下|例如|比如|地|着|了|是)$))"
)
_FORBIDDEN = re.compile(r"[!?！？。…“”\"„»«；;‹›<>{}=@\\]|\.\.|, [a-z]+ [a-z]+ [a-z]+ ")
_PARTICLES = frozenset(
    "der die das des dem den ein eine einer und oder von vom zu zum zur im in mit auf aus of the a an and to with from at "
    "de la le les du des d' et un une à au aux y el los las del e i il lo gli da di van den и в с на из".split()
)


def is_setting(name: str) -> bool:
    """Whether a colon after these words tells place, time or the book, and nobody speaks."""
    return _SETTING.fullmatch(name) is not None


def is_name(name: str) -> bool:
    """Whether the words may name a speaker at all, however often they stand there."""
    if not name or _FORBIDDEN.search(name.split("[")[0]):
        return False
    if _HAN.search(name):
        return len(name) <= 16 and "，" not in name and "：" not in name and not _TELLS.match(name)
    return len(name.split()) <= 9 and (any(c.isalpha() for c in name) or name[0] in "[【")


def is_upper(name: str) -> bool:
    """Whether a name is set in capitals (in scripts that have them), but for particles such as `von`."""
    upper = sum(c.isupper() for c in name)
    return upper > 0 and upper >= 0.6 * sum(c.isalpha() and (c.isupper() or c.islower()) for c in name)


def is_titled(name: str) -> bool:
    """Whether a name in mixed case has the shape of one: `Frau Marthe`, `Der eine Bediente`, `2. Soldat`, `甲`."""
    words = name.split()
    if len(words) > 6 or "," in name:
        return False
    first = words[0]
    if _HAN.search(name):
        return len(name) <= 10
    if first[0].islower():
        return False
    lower = [word for word in words[1:] if word[0].islower() and word not in _PARTICLES]
    return not lower or (first.lower() in _PARTICLES and len(words) - len(lower) >= 2 and not words[-1][0].islower())


# Cues -----------------------------------------------------------------------------------------------------------

_GROUP = r"(?:[(（][^()（）]{0,400}(?:[(（][^()（）]{0,200}[)）][^()（）]{0,400})?[)）]|【[^】]{0,300}】|〔[^〕]{0,300}〕|\[[^\]]{0,300}\])"
_COLON = re.compile(
    rf"(?:[>•\-]\s+)?[*_]{{0,3}}([^:：∶；;(（【〔\[*]{{0,60}}(?:\[[^\]]{{0,40}}\]|【[^】]{{1,20}}】(?=\s*[:：∶；(（]))?)"
    rf"((?:\s*[*_]{{0,3}}{_GROUP}){{0,4}})[*_]{{0,3}}\s*([:：∶；])[*_]{{0,3}}\s*"
)
_DOT = re.compile(
    rf"([^\W\d_][^:：；;!?！？。…“”\"()（）\[\]\n]{{0,40}}?|\d{{1,2}}\. [^\W\d_][^:：；;!?！？。…“”\"()（）\[\].]{{0,40}}?)"
    rf"((?:\s*{_GROUP})?)\.(?:\s*[—–-])?\s+(?=\S)"
)
_TAB = re.compile(r"([^\t]{1,40}?)[:：.]?[ ]?\t\s*(?=\S)")
_TAIL = re.compile(rf"([^()（）]{{1,70}}?)[.:：,]?((?:\s*{_GROUP}){{1,3}})$")


def _colon(body: str) -> Cue | None:
    match = _COLON.match(body)
    if match is None:
        return None
    name = match[1].strip().rstrip(".").rstrip()
    end = match.end()
    if not name or (match[3] == "；" and not _HAN.search(name)) or body.startswith("//", match.end(3)):
        return None
    return _with_square(Cue(name, match.start(2), match.end(2), end), body)


def _block(body: str) -> Cue | None:
    last = body[-1]
    if len(body) > (500 if last in ").）】〕*_" else 70) or last in "!?,;…–—-\"”“«»！？，；。":
        return None
    core = body.strip("*_").rstrip()
    if core.endswith((".", ":")) and not core.endswith(".."):
        core = core[:-1]
    at = body.find(core)
    match = _TAIL.match(core) if core.endswith((")", "）", "】", "〕")) else None
    if match is None:
        return Cue(core.strip(), 0, 0, len(body)) if 0 < len(core) <= 70 else None
    name = match[1].strip().rstrip(".").rstrip()
    return _with_square(Cue(name, at + match.start(2), at + match.end(2), len(body)), body)


_SQUARE = re.compile(r"\s*\[([^\]]*)\]")
_MANNER = re.compile(
    r"aside|beiseite|exit|exeunt|enter|apart|à part|off|v\.?o\.?|o\.?s\.?|cont['’]?d?\.?", re.IGNORECASE
)


def _with_square(cue: Cue, body: str) -> Cue:
    """The first group of a cue in square brackets belongs to the name if it is set as the name: `LOUIS [WOYZECK]`."""
    match = _SQUARE.match(body, cue.directions, cue.directions_end)
    if match is None or is_upper(cue.name) != is_upper(match[1]) or _MANNER.fullmatch(match[1].strip(" .")):
        return cue
    if not is_upper(cue.name) and not match[1][:1].isupper():
        return cue
    return cue._replace(name=f"{cue.name} {match.group().strip()}", directions=match.end())


def _dot(body: str) -> Cue | None:
    match = _DOT.match(body) if ". " in body[:200] else None
    return Cue(match[1].strip(), match.start(2), match.end(2), match.end()) if match else None


def _tab(body: str) -> Cue | None:
    match = _TAB.match(body) if "\t" in body else None
    return Cue(match[1].strip(), 0, 0, match.end()) if match else None


READERS: dict[str, Callable[[str], Cue | None]] = {"colon": _colon, "block": _block, "dot": _dot, "tab": _tab}


def detect(page: Sequence[Row]) -> str:
    """The layout whose cues name the same speakers again and again; `colon` where nothing speaks for another."""
    sample = _sample(page)
    clear = 0.3 * sum(map(bool, sample))  # most rows of a script are cues, or stand below one
    scores = {}
    for layout in LAYOUTS:
        reader = READERS[layout]
        names: Counter[str] = Counter()
        for index, body in enumerate(sample):
            cue = reader(body) if body else None
            if cue and (layout != "block" or _may_stand_alone(sample, index, cue.name)):
                names[cue.name] += 1
        scores[layout] = _score(layout, names)
        if scores[layout] > max(clear, 3):
            return layout
    return max(scores, key=lambda layout: scores[layout])


def _sample(page: Sequence[Row]) -> list[str]:
    """The whole page, or three stretches of it."""
    if len(page) <= 3 * SAMPLE_ROWS:
        return [row.body for row in page]
    starts = (len(page) // 20, len(page) // 2, len(page) - SAMPLE_ROWS)
    return [row.body for start in starts for row in page[start : start + SAMPLE_ROWS]]


def _may_stand_alone(sample: list[str], index: int, name: str) -> bool:
    """Whether a row by itself can be a cue: something stands below it, and it is set apart by space or capitals."""
    return any(sample[index + 1 : index + 3]) and (index == 0 or not sample[index - 1] or name.isupper())


def _score(layout: str, names: Counter[str]) -> float:
    """Names that come back count whole, single ones a little; names in mixed case are weak evidence without a colon."""
    score = 0.0
    for name, count in names.items():
        if not is_name(name) or is_heading(name):
            continue
        if layout == "colon":
            plausible = is_upper(name) or is_titled(name) or (count >= 3 and len(name.split()) <= 2)
            score += (count if count > 1 else 0.4) * (1.0 if plausible else 0.2)
        elif is_upper(name) or layout == "tab":
            score += count if count > 1 else 0.3
        elif is_titled(name) and count > 2:
            score += 0.5 * count
    return score

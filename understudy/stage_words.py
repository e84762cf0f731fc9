"""The words of scripts in several languages: headings, lists of characters, settings, and what a name looks like.

Chinese, English, German, French, Russian, Spanish and Italian. Whatever these lists do not know still reads well where
a work repeats its names and sets its headings apart: the lists only settle what a row alone leaves open.
"""

from __future__ import annotations

import re

_HAN_NUMBER = r"[0-9０-９零〇一二三四五六七八九十百千两]{1,8}"
_NUMBER = r"(?:[ivxlc]{1,7}|[0-9]{1,4})(?![^\W\d_])"
_GERMAN = (
    r"(?:\d{1,3}\.|[ivxlc]{1,7}\.?"
    r"|(?:\w{0,20}(?:erste|zweite|zweyte|dritte|vierte|fünfte|sechste|siebente|siebende|siebte|achte|neunte|zehnte"
    r"|zehende|eilfte|elfte|zwölfte|zwölffte|letzte|nächste)|\w{2,12}zehnte|\w{2,16}zigste|andere)[rs]?)"
)
_ENGLISH = (
    r"(?:the\s+)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|one|two|three|four|five)"
)
_FRENCH = r"(?:premi[eè]re?|seconde?|derni[eè]re?|unique|\w{3,14}i[eè]me|l?['’]?unique)"
_RUSSIAN = r"(?:перв|втор|трет|четв[её]рт|пят|шест|седьм|восьм|девят|десят|\w{3,10}надцат|последн)\w{1,3}"
_ROMANCE = (
    r"(?:primer|segund|tercer|cuart|quint|sext|s[eé]ptim|octav|noven|d[eé]cim|[uú]ltim"
    r"|prim|second|terz|quart|sest)[aoe]?"
)
_HEADING = re.compile(
    rf"""(?:\#{{1,6}}\s+\S
    |[【\[（(《「]?\s*第\s*{_HAN_NUMBER}\s*[幕场場集回折出景节節章部](?![\u4e00-\u9fff]*[，。！？])
    |[【\[]?(?:序幕|尾声|尾聲|楔子|引子|终幕|終幕|幕间|幕間|序场|序場|[场場]景\s*{_HAN_NUMBER})[】\]]?(?![\u4e00-\u9fff])
    |{_HAN_NUMBER}[-—.、\s]+.{{0,12}}?[日夜晨昏]?\s*[内外內](?:景)?(?:\s|$|[.。：:])
    |[\[(]?\s*(?:\w{{1,4}},\s*)?
        (?:act|scene|scena|szene|auftritt|aufzug|akt|bild|acte|sc[eè]ne|tableau|acto|jornada|escena|cuadro|atto
        |действие|явление|акт|сцена|картина|part|chapter)\s+
        (?:{_NUMBER}|{_ENGLISH}\b|{_FRENCH}\b|{_RUSSIAN}\b|{_ROMANCE}\b)
    |{_GERMAN}\s+(?:aufzug|auftritt|aufftritt|akt|act|szene|scene|handlung|abhandlung|abteilung|abtheilung|bild|teil
        |theil|verwandlung|vorgang|szenengruppe)\b
    |{_ENGLISH}\s+(?:act|scene|part)\b
    |(?:{_FRENCH}|{_ROMANCE})\s+(?:acte|sc[eè]ne|journ[eé]e|tableau|acto|jornada|escena|cuadro|atto|scena)\b
    |{_RUSSIAN}\s+(?:действие|явление|акт|сцена|картина|часть)\b
    |(?:int|ext|int\./ext)\.\s+\S
    |(?:prologue|epilogue|prolog|epilog|vorspiel|nachspiel|zwischenspiel|induction|interlude|intermezzo|pr[oó]logo
        |ep[ií]logo|пролог|эпилог|vorrede|vorwort|preface|введение)\s*\.?$)""",
    re.IGNORECASE | re.VERBOSE,
)
_HEADING_LIMIT = 120
_HEADING_STARTS = frozenset(
    "#[(【（《「第序尾楔引终終幕场場0123456789０１２３４５６７８９零〇一二三四五六七八九十百千两"
)
_HEADING_WORDS_TEXT = (
    "act scene scena szene auftritt aufzug aufftritt akt bild acte scène tableau acto jornada escena cuadro atto "
    "действие явление акт сцена картина часть part chapter handlung abhandlung abteilung abtheilung teil theil "
    "verwandlung vorgang szenengruppe journée journee int ext int./ext prologue epilogue prolog epilog vorspiel "
    "nachspiel zwischenspiel induction interlude intermezzo prólogo prologo epílogo epilogo пролог эпилог vorrede "
    "vorwort preface введение"
)
_HEADING_WORDS = frozenset(_HEADING_WORDS_TEXT.split())
_CAST_LIST = re.compile(
    r"[\[【(*_#\s]*(?:dramatis personae|(?:the )?persons (?:of|in) the (?:play|drama)|persons represented"
    r"|cast(?: of characters)?|(?:list of )?characters(?: (?:of|in) the play)?"
    r"|(?:die )?(?:handelnde[n]? )?personen(?: des st(?:ü|ue)cks)?|personenverzeichnis|(?:les )?personnages"
    r"|(?:les )?acteurs|personajes|personas|personaggi|interlocutori|действующие лица|лица"
    r"|(?:主要|出场|登场|剧中)?(?:人物|角色)(?:表|介绍|列表)?|剧中人|演员表)[\]】)*_\s]*[.:：。]?[\]】)*_\s]*",
    re.IGNORECASE,
)
_SETTING = re.compile(
    r"(?:时间|時間|地点|地點|时|地|景|人物|人|场景|場景|布景|背景|幕|字幕|注|备注|说明"
    r"|date|time|place|setting|scene|location|note|source|url|https?"
    r"|ort|ort der handlung|ort und zeit|zeit|zeit der handlung|szene|schauplatz|anmerkung|personen"
    r"|lieu|la sc[eè]ne est.{0,40}|personnages|место|место действия|время|действующие лица)",
    re.IGNORECASE,
)
_BOOK = re.compile(
    r"(?:剧名|片名|编剧|作者|导演|主演|译者|主题|类型|简介|来源|标题|title|author|editor|translator|language"
    r"|release date|posting date|produced by|credits|titel|autor|verfasser|quelle|titre|auteur|автор|название)",
    re.IGNORECASE,
)
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_HAN_NAME_LENGTH = 16
_TELLS = re.compile(
    r"(?:[我你他她它您咱](?!们?$)"
    r"|(?:.*(?:说|說|问道|答道|笑道|喊道|叫道|说道|想|曰|写道|如下|例如|比如|着|了|是)$))"
)
"""`他说`, `我告诉你`: words before a colon that tell of speech and name nobody who speaks."""
_FORBIDDEN = re.compile(r"[!?！？。…“”\"„»«；;‹›<>{}=@\\]|\.\.|, [a-z]+ [a-z]+ [a-z]+ ")
_PARTICLES_TEXT = (
    "der die das des dem den ein eine einer und oder von vom zu zum zur im in mit auf aus of the a an and to with "
    "from at de la le les du d' et un une à au aux y el los las del e i il lo gli da di van и в с на из"
)
_PARTICLES = frozenset(_PARTICLES_TEXT.split())


def is_heading(body: str) -> bool:
    """Whether the words of a row make it the heading of an act, a scene or the like."""
    if len(body) > _HEADING_LIMIT:
        return False
    if body[0] not in _HEADING_STARTS:
        for word in body[:48].lower().split(None, 3)[:3]:
            if word in _HEADING_WORDS or word.strip(".,:;()[]*_") in _HEADING_WORDS:
                break
        else:
            return False
    return _HEADING.match(body) is not None


def is_cast_list(body: str) -> bool:
    """Whether a row opens a list of characters, as `Personen:` or `人物表` do."""
    return len(body) < 60 and _CAST_LIST.fullmatch(body) is not None


def is_setting(name: str) -> bool:
    """Whether a colon after these words tells place or time, and nobody speaks."""
    return _SETTING.fullmatch(name) is not None


def is_of_book(name: str) -> bool:
    """Whether a colon after these words tells of the book; further in, an author may well be somebody who speaks."""
    return _BOOK.fullmatch(name) is not None


def is_han(text: str) -> bool:
    """Whether there is a Chinese or Japanese character in it."""
    return _HAN.search(text) is not None


def is_name(name: str) -> bool:
    """Whether the words may name a speaker at all, however often they stand there."""
    if not name or _FORBIDDEN.search(name.split("[", maxsplit=1)[0]):
        return False
    if is_han(name):
        return len(name) <= _HAN_NAME_LENGTH and "，" not in name and not _TELLS.match(name)
    return len(name.split()) <= 9 and (name[0] in "[【" or any(map(str.isalpha, name)))


def is_upper(name: str) -> bool:
    """Whether a name is set in capitals (in scripts that have them), but for particles such as `von`."""
    if name.isupper():
        return True
    upper = sum(map(str.isupper, name))
    return upper > 0 and upper >= 1.5 * sum(map(str.islower, name))


def is_titled(name: str) -> bool:
    """Whether a name in mixed case has the shape of one: `Frau Marthe`, `Der eine Bediente`, `2. Soldat`, `甲`."""
    words = name.split()
    if len(words) > 6 or "," in name:
        return False
    if is_han(name):
        return len(name) <= 10
    if words[0][0].islower():
        return False
    lower = [word for word in words[1:] if word[0].islower() and word not in _PARTICLES]
    return not lower or (words[0].lower() in _PARTICLES and len(words) - len(lower) >= 2 and not words[-1][0].islower())

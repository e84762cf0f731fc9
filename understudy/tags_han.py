"""Who a Chinese clause beside a quote says is speaking: `宝玉笑道：“…”`, `“…”王夫人说。`, `她问`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from understudy.speech_words import HAN_VERBS
from understudy.tags import Hint

REACH = 90
"""Characters before a quote that are looked at."""

_ADVERB = (
    "忙|又|便|就|乃|因|遂|方|才|只|也|都|还|连|急|亦|即|却|且|复|大|再|先|一面|暗|自|齐|回"
    "|低声|高声|厉声|冷|微微|轻轻|慢慢"
)
_MANNER = (
    "笑|怒|叹|哭|喜|惊|骂|喝|答|应|回|劝|泣|嗔|悄|陪笑|冷笑|点头|摇头|含泪|着|了|地|嘻嘻"
    "|呵呵|哈哈|高声|大声|低声|厉声|起身|拱手|拜|叉手|合掌|告|启|言|说|问|叫|嚷|称谢|大叫|大喝"
)
_END = re.compile(rf"(?:(?:{_ADVERB}|{_MANNER})*(?:{HAN_VERBS})(?:道|说|曰|着|了|声|一声)?)$")
_TAGGED = re.compile(
    r"(?:^|[\s，。！？；：、”’\"」』．])(?:却说|且说|只见|只听|只听得|忽见|却见|那里|这里|那|这|当下|于是)?"
    rf"([\u4e00-\u9fff]{{1,5}}?)(?:{_ADVERB})*(?:{_MANNER})*(?:道|曰|说)[：:∶，；]?\s?[“\"「『]",
    re.MULTILINE,
)
_AFTER = re.compile(
    r"^[，,。\s—…]*([\u4e00-\u9fff·]{1,8}?)(?:[^，,。！？；：“”\"「」\n]{0,8}?)"
    r"(?:说道|问道|答道|笑道|喊道|叫道|说|问道|问|道|喊|叫|答|嚷|叹|回答|低语|解释)(?:着|了|道)?(?=[，,。！？：；\s…]|$)"
)
_STOPS_TEXT = """又 便 乃 因 笑 忙 大 遂 问 答 只 都 也 方 才 还 说 道 人 他 她 我 你 其
    之 来 去 上 下 一 自 亦 自己 心中 心里 忽 将 即 却 听 见 一人 此人 那人 有人 只听 听说 不知
    因此 所以 原来 如何 怎么 这里 那里 说着 口中 嘴里 点头 摇头 喝 叫 骂 起身 连忙 近前 回头 上前 出来 进来 拍手 众人都
    一声 诗 词 书 赞 表 略 话 言 歌 声 诏 檄
    个 个人 连 叹 高声 低声 厉声 大声 喝声 大叫 大呼 仰天 回报 传令 分付 吩咐 寻思 诧异 自古 口里 肚里 心内 外头 有诗
    回顾 商议 附耳 些人 一头 忽人 入帐 下令 暗忖 思量 其略 其文 对众 马上 上写 喝采 齐声 连声 失声 低低 正色 勉强
    含泪 嘱咐 谓之 责之 叱之 嘱之 慰之 劝之 骂之 止之 告之 问之
    一面 一个 口内 半日 忽然 门上 破题 回 一会 半晌 良久 随即 起来 笑着 哭着 嘴内 心内"""
_STOPS = frozenset(_STOPS_TEXT.split())
_LEAST = {1: 12, 2: 2, 3: 2}
"""Times that a name of so many characters must be met; a longer one four times."""
_NO_END = frozenset("的了着得来去笑皆奏告问答叫骂喝叹泣禀报闻议曰他她你我于而")
_NO_BEGINNING = frozenset("又便乃因忙遂他她我你此其这那只见听")
_OBJECT = frozenset("向对与跟和给把被请将令使教替同问告望谢着劝骂拉扶见等谓唤命召叫指顾遣")
"""What stands before those whom something is done to, or who are spoken to."""
_SURNAMES = frozenset("向和谢顾召")
"""Those of them that are surnames."""
_PART_OF_NAME = re.compile(r"[儿们等哥子爷氏嫂姐妹公婆奶娘]")
_OFTEN = 3
"""Times as often a name must be met alone for a longer run of characters to be that name and a verb."""
_CLAUSE = re.compile(r"[。！？；．!?;”’\"」』]")
_THIRD = re.compile(r"(?:他|她)(?!们)")
_AGAIN = re.compile(r"^[，,\s]*(?:说着|说罢|说毕|接着|又|因又|遂又|一面说|言罢|言讫|说完|便又|复)")
_INSIDE = re.compile(rf"(?:{_ADVERB}|{_MANNER}|{HAN_VERBS}|道|来|去|见|听|的|得|在|到)")


def spoken_names(flat: str) -> Counter[str]:
    """Names that stand before a speech verb and a quote, with how often: enough times to be one."""
    counts: Counter[str] = Counter()
    behind: dict[str, Counter[str]] = {}
    for match in _TAGGED.finditer(flat):
        name = match.group(1)
        counts[name] += 1
        if len(name) == 1:
            behind.setdefault(name, Counter())[flat[match.end(1)]] += 1
    for name, following in behind.items():
        char, count = following.most_common(1)[0]
        if counts[name] >= _LEAST[1] and count > 0.8 * counts[name] and char not in "道曰说說":
            counts[name + char] += counts.pop(name)  # `武大道`: what is always there is no adverb
    found: Counter[str] = Counter()
    for name, count in counts.items():
        if count < _LEAST.get(len(name), 4) or name in _STOPS or name[0] in _NO_BEGINNING or name[-1] in _NO_END:
            continue
        if len(name) > 2 and (_INSIDE.search(name[1:]) or name[-2:] in _STOPS):
            continue
        found[name] = count
    return Counter({name: count for name, count in found.items() if not _glued(name, found)})


def _glued(name: str, found: Mapping[str, int]) -> bool:
    """Whether a name that is met more often alone stands in it behind a verb (`谓玄德`) or before one (`行者闻`)."""
    often = _OFTEN * found[name]
    verb = name[0] in "里忽" or (name[0] in _OBJECT and (len(name) > 2 or name[0] not in _SURNAMES))
    if verb and found.get(name[1:], 0) >= found[name]:
        return True
    parts = ((name[:cut], name[cut:]) for cut in range(2, len(name)))
    return any(found.get(head, 0) >= often and not _PART_OF_NAME.match(tail) for head, tail in parts)


class HanTags:
    """Reads the clauses beside quotes, with the names that a work is known to hold."""

    def __init__(self, names: Iterable[str]) -> None:
        by_first: dict[str, list[str]] = {}
        for name in sorted(set(names), key=len, reverse=True):
            if name:
                by_first.setdefault(name[0], []).append(re.escape(name[1:]))
        groups = (re.escape(first) + f"(?:{'|'.join(rest)})" for first, rest in by_first.items())
        self.names = re.compile("|".join(groups) or r"(?!)")

    def mentions(self, text: str) -> list[tuple[int, str]]:
        """Known names in the order of the text, the longest at each place."""
        return [(match.start(), match.group()) for match in self.names.finditer(text)]

    def before(self, text: str) -> Hint | None:
        """From the words ahead of a quote."""
        text = text[-REACH:].rstrip()
        bare = text.rstrip("：:∶，,；; \u3000—…")
        colon = text[len(bare) :].strip()[:1] in tuple("：:∶；")
        cuts = [match.end() for match in _CLAUSE.finditer(bare)]
        sentence = bare[cuts[-1] :] if cuts else bare
        tag = _END.search(sentence)
        if tag is None and not colon:
            return None
        head = sentence[: tag.start()] if tag else sentence
        mentioned = self.mentions(sentence[: len(head) + 2])
        people = [(i, name) for i, name in mentioned if i < len(head) and not self._object(head, i)]
        if people:
            last = people[-1]
            name = last[1] if last[0] + len(last[1]) >= len(head) else people[0][1]
            return Hint("name", name, "", len(sentence))
        if tag and (name := self._unknown(head)):
            return Hint("name", name, "", len(sentence))
        if _THIRD.search(head):
            return Hint("pronoun", "", "f" if "她" in head else "", len(sentence))
        if len(cuts) > 1 or (cuts and bare[: cuts[-1]].strip()):
            earlier = bare[cuts[-2] if len(cuts) > 1 else 0 : cuts[-1]]
            people = [(i, name) for i, name in self.mentions(earlier) if not self._object(earlier, i)]
            if people:
                return Hint("beat", people[0][1], "", len(sentence))
        return Hint("same" if _AGAIN.match(sentence) else "told", "", "", len(sentence))

    def _object(self, text: str, at: int) -> bool:
        return at > 0 and text[at - 1] in _OBJECT

    def _unknown(self, head: str) -> str:
        """A short run of characters right before the verb that may be a name nobody has met."""
        clause = re.split(r"[，,、：\s\u3000]", head)[-1]
        clause = re.sub(r"^(?:却说|且说|只见|只听|忽见|那|这|当下|于是)", "", clause)
        clause = next((clause[: i - 1] for i, _ in self.mentions(clause) if self._object(clause, i)), clause)
        fine = 2 <= len(clause) <= 4 and clause[-2:] not in _STOPS and not _INSIDE.search(clause)
        return (
            clause
            if fine
            and clause[0] not in _OBJECT
            and clause[-1] not in _NO_END
            and all("\u4e00" <= c <= "\u9fff" for c in clause)
            else ""
        )

    def after(self, text: str) -> Hint | None:
        """From the words behind a quote."""
        match = _AFTER.match(text[:40])
        if match is None or text[match.end() : match.end() + 2].strip()[:1] in tuple("：:“「『"):
            return None
        people = [(i, name) for i, name in self.mentions(match.group()) if not self._object(match.group(), i)]
        if people:
            return Hint("name", people[0][1], "", 0)
        if third := _THIRD.search(match.group()):
            return Hint("pronoun", "", "f" if third.group() == "她" else "m", 0)
        name = match.group(1)
        fine = 2 <= len(name) <= 4 and name not in _STOPS and not _INSIDE.search(name)
        return Hint("name", name, "", 0) if fine else None

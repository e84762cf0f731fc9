"""Words that tell of speech, and of who speaks, in prose: English and Chinese in full, other languages for dashes."""

from __future__ import annotations

import re

_VERBS_TEXT = """said say says cried cries replied replies asked asks answered answers exclaimed returned
    rejoined continued added thought whispered shouted muttered murmured remarked repeated observed began
    demanded inquired enquired interrupted called sighed screamed growled responded declared protested pleaded
    announced explained suggested insisted admitted agreed retorted gasped groaned laughed sobbed panted
    roared yelled bellowed shrieked snapped snarled hissed stammered stuttered faltered mumbled grumbled
    pursued resumed proceeded concluded persisted queried questioned wondered commented stated told informed
    assured reminded warned ordered commanded begged entreated implored urged confessed confided conceded
    acknowledged assented affirmed asserted contradicted objected argued reasoned reflected mused ejaculated
    echoed moaned wailed wept whimpered squeaked piped chimed chirped crowed drawled croaked barked sneered
    scoffed jeered taunted teased joked quipped grinned smiled chuckled giggled tittered breathed spoke read
    recited quoted wrote sang prayed vowed swore promised threatened apologised apologized thanked greeted
    hailed summoned invited offered volunteered advised counselled counseled consoled comforted soothed coaxed
    encouraged scolded chided rebuked reproved reproached accused blurted burst broke put struck finished
    ended intervened interposed interjected corrected amended prompted hinted guessed supposed imagined
    decided determined announced proclaimed pronounced testified maintained claimed cautioned admonished
    lectured lamented complained whined fretted fumed raged stormed thundered boomed gulped choked spluttered
    sputtered hesitated ventured hazarded quavered trembled shuddered sniffed snorted grunted nodded went
    cooed purred bawled hallooed tempted mimicked parroted babbled rambled prattled chattered gossiped tattled"""
VERBS = frozenset(_VERBS_TEXT.split())
"""One word that tells that somebody speaks or thinks aloud."""

_WEAK_TEXT = """put burst broke struck went read wrote finished ended smiled grinned laughed nodded trembled
    shuddered sang thought told spoke returned decided determined wondered guessed supposed began continued
    offered called proceeded invited thanked greeted promised ordered hesitated sighed claimed informed
    assured reminded"""
WEAK = frozenset(_WEAK_TEXT.split())
"""Those of them that often tell of something else: they count only right beside a quote."""

PRONOUNS = {
    "he": "m",
    "she": "f",
    "it": "n",
    "i": "1",
    **dict.fromkeys(("they", "we", "you", "both", "everybody", "everyone", "all"), "p"),
    **dict.fromkeys(("one", "another", "somebody", "someone", "who", "which", "that", "this", "there", "nobody"), ""),
    "what": "",
}
"""What a pronoun tells of a speaker: `m`, `f`, `n`, `1` for the narrator, `p` for several; nothing for the others."""
_DETERMINERS_TEXT = "the a an his her my their our its your this that these those another"
DETERMINERS = frozenset(_DETERMINERS_TEXT.split())
OWNERS = {"his": "m", "her": "f", "my": "1", "their": "p", "our": "p", "your": "p", "its": "n"}
_MALE_TITLES = """mr mr. sir lord monsieur uncle king prince duke count baron father brother colonel captain major
    general rev. reverend master squire farmer sergeant lieutenant herr señor don"""
_FEMALE_TITLES = """mrs mrs. miss ms ms. lady madam madame mme mlle mademoiselle aunt queen princess duchess countess
    baroness mother sister mistress nurse frau fräulein señora doña"""
_TITLES = "doctor dr dr. professor prof. st. old young poor little dear cousin judge inspector"
TITLES = {
    **dict.fromkeys(_MALE_TITLES.split(), "m"),
    **dict.fromkeys(_FEMALE_TITLES.split(), "f"),
    **dict.fromkeys(_TITLES.split(), ""),
}
"""Words before a name, with the gender that they tell."""

_MEN = """father man boy brother son husband king uncle gentleman lad fellow lord nephew grandfather prince duke papa
    butler footman coachman waiter steward miller baker friar monk priest sailor sir master clergyman groom"""
_WOMEN = """mother woman girl sister daughter wife queen aunt lady lass niece grandmother princess duchess mamma mama
    maid housekeeper nurse governess witch nun madam mistress hostess landlady widow bride"""
NOUNS = {**dict.fromkeys(_MEN.split(), "m"), **dict.fromkeys(_WOMEN.split(), "f")}
"""Common nouns for people, with their gender."""

_FUNCTION_TEXT = """the a an and but or so then when while if as at by in on of for from to with without into
    upon after before until once now here there this that these those he she it they we you i his her my their
    our its your him them us me who what which where why how yes no not nor oh ah well very only just still
    yet even again perhaps suddenly presently soon meanwhile however indeed thus all both each every some any
    one two three another other such never always often sometimes finally first last next instead otherwise
    besides though although because since whether having being had was were is are be been did do does will
    would shall should could may might must can let good come look see poor dear please nothing something
    everything anything nobody somebody everybody alas o ay aye chapter tell dearest goodness heavens god
    thank thanks"""
FUNCTION = frozenset(_FUNCTION_TEXT.split())
"""Words with a capital only because a sentence begins."""

_TAG_VERBS = (
    "dit|répondit|demanda|s['’]écria|reprit|murmura|répliqua|ajouta|cria|fit|continua|observa|interrompit|pensa"
    "|dijo|respondió|preguntó|exclamó|contestó|replicó|añadió|murmuró|gritó|repuso"
    "|sagte|fragte|antwortete|rief|erwiderte|flüsterte"
    "|сказал[аи]?|спросил[аи]?|ответил[аи]?|отвечал[аи]?|проговорил[аи]?|воскликнул[аи]?|закричал[аи]?|крикнул[аи]?"
    "|said|asked|replied|answered|cried|disse|rispose|chiese|domandò|esclamò|perguntou|respondeu"
)
DASH_TAG = re.compile(
    rf"(?P<tag>(?:[,;.!?…»][^\S\n]?|\s)[—–―][^\S\n]?(?=(?:\w+\s+){{0,2}}(?:{_TAG_VERBS})\b)"
    r"[^—–―]{1,200}(?:[—–―][.,;:]?\s*|$)"
    rf"|(?<=[,!?»])\s(?:{_TAG_VERBS})(?:-t)?(?:-(?:il|elle|on|je|ils|elles))?\b[^—–―]{{0,200}}(?:[—–―]\s*|$))",
    re.IGNORECASE,
)
"""What tells who speaks within a paragraph that a dash opens."""

HAN_VERBS = (
    "道|说|說|曰|云|问|問|答|喝|叫|喊|骂|罵|叹|嘆|笑|言|奏|禀|告|吟|念|想|叱|呼|嚷|劝|哭|应|應|回|谢|赞|报|嘱|吩咐|嘱咐|议|谏"
    "|央|求|讲|斥|怒吼|低语|嘟囔|嘀咕|解释|补充|接口|插嘴|开口|追问|反问|回答|答应|喃喃"
)
"""Words with which a Chinese clause ends before a quote."""

"""Patterns of personal data: e-mail addresses, telephone, identity and card numbers.

Numbers with a check digit are checked (Chinese identity numbers, payment cards by Luhn), so a long number in a story is
not taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,24}(?![\w-])"
)
_PHONE = re.compile(
    r"(?<![\d.,])(?:"
    r"(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}|"  # Chinese mobile
    r"0\d{2,3}-\d{7,8}|"  # Chinese landline
    r"\+\d{1,3}[ -]?(?:\(\d{1,4}\)[ -]?)?\d{2,4}(?:[ -]?\d{2,4}){2,4}|"  # international
    r"(?:1[ -.])?(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}"  # North America
    r")(?![\d]|[.,]\d)"
)
_ID_CN = re.compile(
    r"(?<!\d)[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![\dA-Za-z])"
)
_ID_US = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def personal_data(text: str, kinds: Collection[str] = ("email", "phone", "id", "card")) -> str:
    """The first kind of personal data in `text` (`email`, `phone`, `id`, `card`), or an empty string."""
    if "email" in kinds and "@" in text and _EMAIL.search(text):
        return "email"
    if not any(char.isdigit() for char in text):
        return ""
    if "id" in kinds and (any(_is_id(m.group()) for m in _ID_CN.finditer(text)) or _ID_US.search(text)):
        return "id"
    if "card" in kinds and any(_is_card(match.group()) for match in _CARD.finditer(text)):
        return "card"
    return "phone" if "phone" in kinds and _PHONE.search(text) else ""


def _is_id(number: str) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(number[:17], _WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def _is_card(text: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()]
    if len(set(digits)) < 2:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) if place % 2 else digit for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0

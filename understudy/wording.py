"""How messages and pages say counts, and what others said."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 work`, `1,200 works`."""
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def one_line(said: object, most: int = 200) -> str:
    """The words of a library's error, or of anything, as one line of at most `most` characters."""
    return " ".join(str(said).split())[:most]


def shortened(said: object, most: int = 200) -> str:
    """As `one_line`, with dots behind what was cut; of an error without words its class."""
    text = " ".join(str(said).split()) or (type(said).__name__ if isinstance(said, BaseException) else "")
    return text if len(text) <= most else f"{text[:most]}..."

"""The letters of a text: what remains when case, spaces and punctuation make no difference."""


def letters(text: str) -> str:
    """Letters and digits alone, without case."""
    return "".join(filter(str.isalnum, text.casefold()))

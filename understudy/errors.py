"""Errors named by the boundary at which they arise.

UnderstudyError                  the work failed (exit 1)
├── InputError                   the input is wrong (exit 2): one line that says what, where, what to do
│   ├── RecipeError              a recipe or an override
│   ├── CorpusError              a text that cannot be read
│   │   └── ColumnError          a table without the column that is asked for
│   ├── PersonaError             a cast entry or a character card
│   ├── BaseError                a base model that cannot be found or loaded
│   └── CatalogError             a name, version or alias that the catalog does not know
├── StoreError                   the store refused or failed
│   ├── MissingError             nothing is stored under that key
│   └── AccessError              no such bucket, no credentials or no right to it (exit 2)
├── AdapterError                 an adapter that is damaged, or made for another base
└── HeldError                    another run holds the recipe
"""

from __future__ import annotations


class UnderstudyError(Exception):
    """The work failed; the message is one line for the person at the terminal."""

    exit_code = 1


class InputError(UnderstudyError):
    """The input is wrong; the message says what, where and what to do."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe, or an override of it, does not hold."""


class CorpusError(InputError):
    """A text is missing, empty or cannot be read."""


class ColumnError(CorpusError):
    """A table has no column of the name that is asked for."""


class PersonaError(InputError):
    """A cast entry or a character card does not hold."""


class BaseError(InputError):
    """A base model cannot be found or loaded."""


class CatalogError(InputError):
    """The catalog does not know that persona, version or alias."""


class StoreError(UnderstudyError):
    """The store refused or failed."""


class MissingError(StoreError):
    """Nothing is stored under that key."""


class AccessError(StoreError):
    """A bucket that does not exist, or that these credentials may not use; nothing helps but other input."""

    exit_code = 2


class AdapterError(UnderstudyError):
    """An adapter is damaged, incomplete, or made for another base."""


class HeldError(UnderstudyError):
    """Another run holds this recipe; the message says who."""

"""Conversations in and out: the formats of other trainers, read and written.

shapes    rows of other tools as chat messages
rows      bytes as rows, broken ones apart
reading   files as conversations
writing   conversations as rows and files
merging   many files as one
"""

from __future__ import annotations

from understudy.interchange.reading import Format, belonging_to, read_conversations_file, read_rows

__all__ = ["Format", "belonging_to", "read_conversations_file", "read_rows"]

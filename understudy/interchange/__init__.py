"""Conversations in and out: the formats of other trainers, read and written."""

from __future__ import annotations

from understudy.interchange.reading import Format, belonging_to, read_conversations_file, read_rows

__all__ = ["Format", "belonging_to", "read_conversations_file", "read_rows"]

"""Dates as people read them."""

from __future__ import annotations

import datetime


def day(date: str) -> str:
    """An ISO 8601 date and time in words, in the time of this machine; what is no such date as it is."""
    try:
        moment = datetime.datetime.fromisoformat(date).astimezone()
    except ValueError:
        return date
    return f"{moment.day} {moment:%B %Y, %H:%M}"

"""Times as people write them: RFC 3339, a day, or a duration from now such as ``90d``, ``48h`` or ``30m``."""

import re
import time
from datetime import UTC, datetime, timedelta

import click

_DURATION = re.compile(r"\A(\d{1,6})([smhd])\Z", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


class Moment(click.ParamType[int]):
    """A point in time, in seconds since 1970; a duration counts from now."""

    name = "TIME"

    def __init__(self, *, is_end: bool = False) -> None:
        """Read the beginning of a period, or with ``is_end`` its last second: then a day alone is meant to its end."""
        self._day_s = 24 * 3600 - 1 if is_end else 0

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a time.

        Raises:
            BadParameter: it is none, or lies before 1970.
        """
        if isinstance(value, int):
            return value
        if match := _DURATION.match(value):
            return int(time.time()) + int(match[1]) * _SECONDS[match[2]]
        try:
            moment = datetime.fromisoformat(value)
            # A day alone is one of UTC; a time of day must say its zone.
            if moment.tzinfo is None and len(value) == len("2026-11-03"):
                moment = moment.replace(tzinfo=UTC) + timedelta(seconds=self._day_s)
            seconds = int(moment.timestamp()) if moment.tzinfo else -1
        except (ValueError, OverflowError):
            seconds = -1
        if seconds < 0:
            self.fail(f"{value!r} is no time: 90d, 48h, 30m, 2026-11-03 or 2026-11-03T10:00:00Z", param, ctx)
        return seconds


MOMENT = Moment()
END = Moment(is_end=True)

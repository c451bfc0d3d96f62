"""Where log lines go: standard error, as text for people or as one JSON object a line for machines."""

import json
import logging
import sys
import time


class _Lines(logging.Formatter):
    """``time level logger message``, in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging names it so
        """Write the line; a peer whose words stand in it must not begin another, or move a terminal's cursor."""
        record.message = "".join(c if c.isprintable() else "?" for c in record.message)
        return super().formatMessage(record)


class _Json(logging.Formatter):
    """One object a line, for those who collect logs."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def set_up_logs(level: str, form: str) -> None:
    """Send our own log lines to standard error; libraries are heard from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_log_level(level)


def set_log_level(level: str) -> None:
    """Change how much this node tells."""
    logging.getLogger("caretrace").setLevel(level.upper())

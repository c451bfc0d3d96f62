"""Where the program begins: an interruption while it still loads ends it as quietly as a later one."""

import os
import signal
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130


def main() -> None:
    """Load the program and run it; the entry point of the package."""
    signal.signal(signal.SIGINT, _leave)
    from cli.main import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    # Nothing has begun yet that would have to be ended.
    os.write(2, b"caretrace: interrupted\n")
    os._exit(_INTERRUPTED)

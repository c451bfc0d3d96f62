"""The wall clock of a running node, set forward and back: a small C library laid under it, where a compiler is."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.running_network import RunningNetwork

SOURCE = Path(__file__).with_name("clock_offset.c")
COMPILER = shutil.which("cc")
NO_COMPILER = "no C compiler (cc) is here to build tests/support/clock_offset.c with"


def build_clock(folder: Path) -> dict[str, str]:
    """Compile the library; returns the environment that lays it under what is started."""
    assert COMPILER, NO_COMPILER
    library = folder / "clock_offset.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE], check=True)
    return {"LD_PRELOAD": str(library)}


def give_clock(network: RunningNetwork, name: str) -> None:
    """Put the file there by which a node's clock is set, from its next start on."""
    (network.place(name).home / "clock-offset").write_bytes(bytes(8))


def set_clock(network: RunningNetwork, name: str, offset_s: int) -> None:
    """Have a node's wall clock differ by so much from now on."""
    with (network.place(name).home / "clock-offset").open("r+b") as file:
        file.write(offset_s.to_bytes(8, sys.byteorder, signed=True))

"""What disks and operators do to a stopped node's data, and the proof that the node then promises nothing.

A node that is ruined signs nothing, so what it held when it was stopped may be put back afterwards, and it votes again.
Were that not so, this would be an old data folder restored, and the node would say so instead of voting.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.client import Json, Node
from cli.cluster import Place
from cli.errors import CliError
from node.config import Home, multiaddr
from tests.support.running_network import RunningNetwork, base_port, installed_program, until

WITHIN_S = 90.0
FLIP_EVERY_BYTES = 97


def flip(path: Path, place: int) -> None:
    """Change one bit of a file in its place, whoever has it open."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def flip_vote_log(data: Path) -> None:
    for path in data.glob("votes-*.log"):
        flip(path, 20)


def cut_vote_log(data: Path) -> None:
    for path in data.glob("votes-*.log"):
        with path.open("r+b") as file:
            file.truncate(40)


def lose_vote_log(data: Path) -> None:
    for path in data.glob("votes-*.log"):
        path.unlink()


def flip_ledger(data: Path) -> None:
    """Flip bits all over what LevelDB has written: its logs in their midst, its tables everywhere."""
    for path in (data / "ledger").iterdir():
        size_bytes = path.stat().st_size
        if path.suffix == ".ldb":
            for place in range(FLIP_EVERY_BYTES, size_bytes, FLIP_EVERY_BYTES):
                flip(path, place)
        elif path.suffix == ".log" and size_bytes:
            flip(path, size_bytes // 2)


def lose_a_table(data: Path) -> None:
    for path in (*(data / "ledger").glob("*.ldb"), *(data / "ledger").glob("*.log")):
        path.unlink()


def lose_ledger(data: Path) -> None:
    shutil.rmtree(data / "ledger")


def lose_everything(data: Path) -> None:
    shutil.rmtree(data)


DAMAGES: tuple[Callable[[Path], None], ...] = (
    flip_vote_log,
    cut_vote_log,
    lose_vote_log,
    flip_ledger,
    lose_a_table,
    lose_ledger,
    lose_everything,
)


@contextmanager
def kept_aside(network: RunningNetwork, name: str) -> Iterator[Path]:
    """Kill a node; its data may then be ruined, and are put back, as they were, in the end."""
    network.kill(name)
    data = network.place(name).home / "data"
    kept = network.folder / f"kept-{name}"
    shutil.copytree(data, kept)
    try:
        yield data
    finally:
        shutil.rmtree(data, ignore_errors=True)
        kept.rename(data)


@contextmanager
def started(network: RunningNetwork, place: Place) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a node that need not get ready, until it answers or has ended; end it after."""
    with printed(place).open("wb") as file:
        process = subprocess.Popen(
            # What is ruined is put back afterwards: a node that has healed itself meanwhile would have voted.
            [installed_program(), "start", "--home", place.home, "--no-heal"],
            env=network.environment,
            cwd=place.home,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: process.poll() is not None or why_not_ready(place) is not None, WITHIN_S)
        yield process
    finally:
        process.kill()
        process.wait()


def printed(place: Place) -> Path:
    """Where the words of a node go that was started here."""
    return place.home / "ruined.log"


def why_not_ready(place: Place) -> str | None:
    """What a node says of itself; empty if it is ready, None if it does not answer."""
    try:
        return "; ".join(Node(place.name, place.socket, 20.0).get("/v1/status", Json).get("why_not", ()))
    except CliError:
        return None


def why_it_does_not_vote(place: Place, process: "subprocess.Popen[bytes]") -> str:
    """Wait until a node has ended, or says that it votes no more; returns its words.

    A node that was just started asks the others first, and has an opinion once a quorum has answered.
    """

    def words() -> str:
        ended = process.poll() is not None
        return printed(place).read_text() if ended else why_not_ready(place) or ""

    until(lambda: "votes no more" in words() or process.poll() is not None, WITHIN_S)
    return words()


def copy_of(network: RunningNetwork, name: str) -> Place:
    """Another machine with the same keys: a copy of a stopped node's home, on other ports."""
    own, home, port = network.place(name), network.folder / "twin", base_port()
    shutil.copytree(own.home, home, ignore=shutil.ignore_patterns("run"))
    twin = Place(name, home, f"127.0.0.1:{port + 1}", multiaddr("127.0.0.1", port))
    config = Home(home).config_file
    listen = f'listen = ["{own.p2p}"]'
    text = config.read_text()
    assert listen in text
    config.write_text(text.replace(listen, f'listen = ["{twin.p2p}"]').replace(own.http, twin.http))
    return twin

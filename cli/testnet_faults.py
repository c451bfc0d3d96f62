"""``caretrace testnet kill|pause|resume|partition|slow|heal``: what a test network can be made to suffer."""

import re
import signal
from pathlib import Path
from typing import Any

import click

from cli.cluster import Cluster, kill_node, load_cluster, send_signal
from cli.command import Verb
from cli.errors import usage_error
from cli.options import testnet_folder
from cli.output import Answer
from cli.weather import Report, Slowness, Weather, change_weather, weather_of

DELAY_MS_MAX = 60_000
_DURATION = re.compile(r"\A(\d{1,5})(ms|s)\Z", re.ASCII)


class Milliseconds(click.ParamType[int]):
    """A short time, such as ``50ms`` or ``2s``."""

    name = "TIME"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a time.

        Raises:
            BadParameter: it is none, or longer than a minute.
        """
        if isinstance(value, int):
            return value
        match = _DURATION.match(value)
        milliseconds = int(match[1]) * (1 if match[2] == "ms" else 1000) if match else None
        if milliseconds is None or milliseconds > DELAY_MS_MAX:
            self.fail(f"{value!r} is no time up to a minute, such as 50ms or 2s", param, ctx)
        return milliseconds


@click.command(cls=Verb, example="caretrace testnet kill west")
@click.argument("name")
@testnet_folder
def kill(name: str, folder: Path) -> Answer:
    """End a node as a crash would (SIGKILL)."""
    pid = kill_node(load_cluster(folder).place(name))
    return Answer({"name": name, "pid": pid}, f"{name} is dead (process {pid})")


@click.command(cls=Verb, example="caretrace testnet pause west")
@click.argument("name")
@testnet_folder
def pause(name: str, folder: Path) -> Answer:
    """Freeze a node (SIGSTOP): it holds its connections and does not answer."""
    pid = send_signal(load_cluster(folder).place(name), signal.SIGSTOP)
    return Answer({"name": name, "pid": pid}, f"{name} is frozen")


@click.command(cls=Verb, example="caretrace testnet resume west")
@click.argument("name")
@testnet_folder
def resume(name: str, folder: Path) -> Answer:
    """Let a frozen node go on (SIGCONT)."""
    pid = send_signal(load_cluster(folder).place(name), signal.SIGCONT)
    return Answer({"name": name, "pid": pid}, f"{name} goes on")


@click.command(
    cls=Verb,
    example="caretrace testnet partition north,east south,west\ncaretrace testnet partition north --one-way",
)
@click.argument("side", metavar="NAMES")
@click.argument("other", metavar="[NAMES]", required=False)
@click.option("--one-way", is_flag=True, help="Only what the first side sends is lost.")
@testnet_folder
def partition(side: str, other: str | None, one_way: bool, folder: Path) -> Answer:
    """Cut the cables between two sides, until `heal`; without a second side, between the first and all others.

    Connections stay open and nothing arrives, as when a cable is cut. Further cuts add to those that there are. It
    needs a network made with `testnet up --relay`.
    """
    cluster = load_cluster(folder)
    before = weather_of(cluster).weather
    first = _names(cluster, side)
    second = _names(cluster, other) if other else [place.name for place in cluster.places if place.name not in first]
    if not second or set(first) & set(second):
        raise usage_error("a partition has two sides, and no node is on both", "north,east south,west")
    cuts = {(sender, receiver) for sender in first for receiver in second}
    if not one_way:
        cuts |= {(receiver, sender) for sender, receiver in cuts}
    return _answer(change_weather(cluster, Weather(before.cuts | cuts, before.slow)))


@click.command(cls=Verb, example="caretrace testnet slow south --delay 50ms --jitter 20ms --loss 5")
@click.argument("name")
@click.option("--delay", "delay_ms", type=Milliseconds(), default=0, help="How long each piece takes more, each way.")
@click.option("--jitter", "jitter_ms", type=Milliseconds(), default=0, help="By how much that differs, up and down.")
@click.option("--loss", "loss_percent", type=click.IntRange(0, 100), default=0, help="Percent that TCP sends again.")
@testnet_folder
def slow(name: str, delay_ms: int, jitter_ms: int, loss_percent: int, folder: Path) -> Answer:
    """Slow all cables of a node, until `heal`; it needs a network made with `testnet up --relay`.

    No byte of a TCP connection is lost for good: a lost piece is sent again 200 ms later, and what follows waits.
    """
    cluster = load_cluster(folder)
    before = weather_of(cluster).weather
    if not delay_ms and not jitter_ms and not loss_percent:
        raise usage_error("nothing is to be slow", "--delay 50ms")
    slowness = {cluster.place(name).name: Slowness(delay_ms, jitter_ms, loss_percent)}
    return _answer(change_weather(cluster, Weather(before.cuts, before.slow | slowness)))


@click.command(cls=Verb, example="caretrace testnet heal")
@testnet_folder
def heal(folder: Path) -> Answer:
    """Mend all cables: nothing is cut or slow any more."""
    return _answer(change_weather(load_cluster(folder), Weather()))


def weather_fields(cluster: Cluster) -> dict[str, Any]:
    """Return what stands between the nodes, for ``--json``."""
    return _fields(weather_of(cluster))


def weather_words(fields: dict[str, Any]) -> str:
    """Say in words what stands between the nodes."""
    cuts = [f"nothing arrives from {cut['from']} at {cut['to']}" for cut in fields["cuts"]]
    slow = [
        f"{s['name']} is slow: {s['delay_ms']} ms, give or take {s['jitter_ms']}, and {s['loss_percent']} % lost"
        for s in fields["slow"]
    ]
    return "\n".join(cuts + slow) or "all cables are whole"


def _fields(report: Report) -> dict[str, Any]:
    return {
        "relay_pid": report.pid,
        "cuts": [{"from": sender, "to": receiver} for sender, receiver in sorted(report.weather.cuts)],
        "slow": [
            {"name": name, "delay_ms": s.delay_ms, "jitter_ms": s.jitter_ms, "loss_percent": s.loss_percent}
            for name, s in sorted(report.weather.slow.items())
        ],
    }


def _answer(report: Report) -> Answer:
    fields = _fields(report)
    return Answer(fields, weather_words(fields))


def _names(cluster: Cluster, text: str) -> list[str]:
    return [cluster.place(name.strip()).name for name in text.split(",")]

"""What a test network's relay does to the traffic between its nodes, and how commands tell it: JSON over a socket."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from cli.cluster import Cluster, ClusterError

SOCKET_NAME = "relay.sock"
LOG_NAME = "relay.log"
MESSAGE_BYTES_MAX = 1 << 20
ASK_S = 5.0
START_S = 20.0
_LOOK_S = 0.05


class Slowness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a node's traffic, to it and from it, is held up.

    Each piece that passes waits ``delay_ms``, give or take ``jitter_ms``, never overtaking another. What a lossy cable
    drops TCP sends again: ``loss_percent`` of the pieces, and all behind them, wait as long as that takes.
    """

    delay_ms: int
    jitter_ms: int
    loss_percent: int


class Weather(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands between the nodes: pairs (sender, receiver) where nothing arrives, and nodes that are slow."""

    cuts: frozenset[tuple[str, str]] = frozenset()
    slow: dict[str, Slowness] = {}


class Forecast(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command's word to the relay: the weather from now on, or None to ask, or to stop."""

    weather: Weather | None = None
    stop: bool = False


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The relay's answer: the weather that is now."""

    pid: int
    weather: Weather


def relay_socket(folder: Path) -> Path:
    """Return where the relay of a network is talked to."""
    return folder / SOCKET_NAME


def ask_relay(folder: Path, word: Forecast) -> Report | None:
    """Tell the relay what is to be, and return what is; None if it does not run.

    Raises:
        ClusterError: it does not answer as it should.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASK_S)
        try:
            connection.connect(str(relay_socket(folder)))
            connection.sendall(msgspec.json.encode(word))
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(MESSAGE_BYTES_MAX):
                answer += piece
            return msgspec.json.decode(answer, type=Report)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise ClusterError(f"the relay of {folder} does not answer: {error}") from None


def start_relay(cluster: Cluster) -> "subprocess.Popen[bytes] | None":
    """Start the relay in the background, if the network has one and it does not run; it begins with fair weather.

    Raises:
        ClusterError: it does not start; with the last that it printed.
    """
    if not cluster.is_relayed or ask_relay(cluster.folder, Forecast()) is not None:
        return None
    log_file = cluster.folder / LOG_NAME
    with log_file.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.relay", str(cluster.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=cluster.folder,
        )
    deadline = time.monotonic() + START_S
    while ask_relay(cluster.folder, Forecast()) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            words = log_file.read_text(errors="replace").strip().splitlines() or ["(it printed nothing)"]
            raise ClusterError(f"the relay does not start: {words[-1]}")
        time.sleep(_LOOK_S)
    return process


def stop_relay(cluster: Cluster) -> None:
    """Stop the relay, if one runs, and wait until it is gone."""
    if cluster.is_relayed and ask_relay(cluster.folder, Forecast(stop=True)) is not None:
        deadline = time.monotonic() + START_S
        while relay_socket(cluster.folder).exists() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)


def change_weather(cluster: Cluster, weather: Weather) -> Report:
    """Put new weather in force; what is returned is in force.

    Raises:
        ClusterError: the network has no relay, or it does not run.
    """
    report = weather_of(cluster)
    return _running(ask_relay(cluster.folder, Forecast(weather))) if report.weather != weather else report


def weather_of(cluster: Cluster) -> Report:
    """Return what stands between the nodes now.

    Raises:
        ClusterError: the network has no relay, or it does not run.
    """
    if not cluster.is_relayed:
        raise ClusterError("this network has no relay between its nodes; make one with: caretrace testnet up --relay")
    return _running(ask_relay(cluster.folder, Forecast()))


def _running(report: Report | None) -> Report:
    if report is None:
        raise ClusterError("the relay does not run, so no node reaches another; start it with: caretrace testnet up")
    return report

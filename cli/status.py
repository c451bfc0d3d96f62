"""``caretrace status``, ``health`` and ``peers``: how a node is."""

import time
from typing import Any

import click
import msgspec

from cli.client import Json, part_of
from cli.command import Verb
from cli.errors import Exit
from cli.options import reading
from cli.output import Answer, facts, show, table
from cli.session import Session

_WATCH_S = 1.0


class _Peer(msgspec.Struct):
    name: str
    connected: bool
    height: int | None = None
    latency_ms: float | None = None
    why: str = ""


@click.command(cls=Verb, example="caretrace status --node north\ncaretrace status --watch")
@reading
@click.option("--watch", is_flag=True, help="Show it again every second, until interrupted.")
@click.pass_context
def status(ctx: click.Context, session: Session, watch: bool) -> Answer:
    """Show how a node is, and what keeps it from being ready."""
    while watch:
        answer = _answer(session)
        if not ctx.meta["as_json"]:
            click.clear()
        show(answer, "caretrace.status/1", as_json=ctx.meta["as_json"])
        time.sleep(_WATCH_S)
    return _answer(session)


def _answer(session: Session) -> Answer:
    fields = session.node.get("/v1/status", Json)
    peers = part_of(fields, "peers", list[_Peer])
    told = {name: value for name, value in fields.items() if name != "peers"}
    return Answer(fields, f"{facts(told.items())}\n\n{_peer_table(peers)}")


def _peer_table(peers: list[_Peer]) -> str:
    rows = [[p.name, p.connected, p.height, p.latency_ms, p.why] for p in peers]
    return table(["PEER", "CONNECTED", "HEIGHT", "LATENCY MS", "WHY NOT"], rows, "no peers")


@click.command(cls=Verb, example="caretrace peers --node north")
@reading
def peers(session: Session) -> Answer:
    """List the other members' nodes and how they are reached."""
    fields = session.node.get("/v1/status", Json)
    return Answer({"peers": fields.get("peers")}, _peer_table(part_of(fields, "peers", list[_Peer])))


@click.command(cls=Verb, example="caretrace health --node north && echo well")
@reading
def health(session: Session) -> Answer:
    """Ask whether a node is ready: exit code 0, or 8 and why not."""
    reasons = session.node.why_not_ready()
    fields: dict[str, Any] = {"ready": not reasons}
    if reasons:
        fields["why_not"] = reasons
    return Answer(fields, facts(fields.items()), exit_code=Exit.UNHEALTHY if reasons else Exit.OK)

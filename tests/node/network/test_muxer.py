from hashlib import sha256

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset
from libp2p.stream_muxer.yamux.yamux import Yamux

from node.network.muxer import Muxer
from node.network.yamux import ACK, DATA, FIN, GO_AWAY, HEADER, PING, SYN, WINDOW_BYTES, WINDOW_UPDATE
from tests.support.members import until
from tests.support.muxers import read_exactly, running_muxers, secured_pair, stream_between

pytestmark = pytest.mark.network


def pattern(size_bytes: int, seed: int = 0) -> bytes:
    block = sha256(bytes([seed])).digest()
    return (block * (size_bytes // len(block) + 1))[:size_bytes]


async def test_bytes_arrive_in_order_and_in_both_directions() -> None:
    async with running_muxers() as (dialler, listener):
        ours, theirs = await stream_between(dialler, listener)

        await ours.write(b"ping")
        await theirs.write(b"pong")

        assert await theirs.read() == b"ping"
        assert await ours.read() == b"pong"


async def test_a_megabyte_passes_a_window_of_a_quarter() -> None:
    message = pattern(1_000_000)
    async with running_muxers() as (dialler, listener), trio.open_nursery() as nursery:
        ours, theirs = await stream_between(dialler, listener)

        nursery.start_soon(ours.write, message)
        received = await read_exactly(theirs, len(message))

        assert received == message


async def test_what_two_tasks_write_to_one_stream_is_not_mixed() -> None:
    first, second = pattern(400_000, 1), pattern(400_000, 2)
    async with running_muxers() as (dialler, listener), trio.open_nursery() as nursery:
        ours, theirs = await stream_between(dialler, listener)

        nursery.start_soon(ours.write, first)
        nursery.start_soon(ours.write, second)
        received = await read_exactly(theirs, 800_000)

        assert received in (first + second, second + first)


async def test_a_reader_that_stalls_stops_its_own_stream_only() -> None:
    async with running_muxers() as (dialler, listener), trio.open_nursery() as nursery:
        stalled, unread = await stream_between(dialler, listener)
        message = pattern(2 * WINDOW_BYTES)
        nursery.start_soon(stalled.write, message)
        await trio.testing.wait_all_tasks_blocked()

        ours, theirs = await stream_between(dialler, listener)
        await ours.write(b"passes")
        passed = await theirs.read()

        assert passed == b"passes"
        assert await read_exactly(unread, len(message)) == message


async def test_a_write_that_is_cancelled_breaks_its_own_stream_only() -> None:
    """Defect 8: with the library the whole connection is torn."""
    async with running_muxers() as (dialler, listener):
        abandoned, unread = await stream_between(dialler, listener)
        with trio.move_on_after(0.05) as scope:
            await abandoned.write(pattern(3 * WINDOW_BYTES))
        await abandoned.reset()

        ours, theirs = await stream_between(dialler, listener)
        await ours.write(b"whole")

        assert scope.cancelled_caught
        assert await theirs.read() == b"whole"
        with pytest.raises(MuxedStreamReset):
            await unread.read()


async def test_each_direction_of_a_stream_ends_on_its_own() -> None:
    async with running_muxers() as (dialler, listener):
        ours, theirs = await stream_between(dialler, listener)
        await ours.write(b"last")
        await ours.close()

        assert await theirs.read() == b"last"
        with pytest.raises(MuxedStreamEOF):
            await theirs.read()
        await theirs.write(b"answer")
        assert await ours.read() == b"answer"
        with pytest.raises(MuxedStreamClosed):
            await ours.write(b"too late")
        await theirs.close()
        await until(lambda: not dialler.streams and not listener.streams)


async def test_a_stream_is_forgotten_when_it_is_broken_off() -> None:
    async with running_muxers() as (dialler, listener):
        ours, theirs = await stream_between(dialler, listener)

        await ours.reset()

        with pytest.raises(MuxedStreamReset):
            await theirs.read()
        with pytest.raises(MuxedStreamReset):
            await theirs.write(b"x")
        assert not dialler.streams
        assert not listener.streams


async def test_more_streams_than_allowed_are_refused_and_the_connection_stays() -> None:
    async with running_muxers() as (dialler, listener):
        opened = []
        for _ in range(40):
            opened.append(await dialler.open_stream())
            with trio.move_on_after(0.05):
                await listener.accept_stream()

        refused = [stream for stream in opened if stream.is_over]
        ours, theirs = await stream_between(listener, dialler)
        await ours.write(b"still here")

        assert len(refused) == 40 - 32
        assert await theirs.read() == b"still here"


async def test_a_ping_is_answered_and_measured() -> None:
    async with running_muxers() as (dialler, _listener):
        dialler.ping()

        await until(lambda: dialler.latency_s is not None)

        assert dialler.latency_s is not None
        assert 0 < dialler.latency_s < 1


async def test_when_one_end_closes_the_other_learns_it() -> None:
    async with running_muxers() as (dialler, listener):
        ours, _theirs = await stream_between(dialler, listener)

        await listener.close()
        await dialler.closed.wait()

        assert dialler.close_reason == "connection lost"
        with pytest.raises(MuxedStreamReset):
            await ours.read()
        with pytest.raises(MuxedConnUnavailable):
            await dialler.open_stream()
        with pytest.raises(MuxedConnUnavailable):
            await dialler.accept_stream()


def frame(kind: int, flags: int, stream_id: int, length: int, data: bytes = b"", version: int = 0) -> bytes:
    return HEADER.pack(version, kind, flags, stream_id, length) + data


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (frame(DATA, SYN, 1, 0, version=1), "a frame that Yamux does not know"),
        (frame(GO_AWAY + 1, 0, 0, 0), "a frame that Yamux does not know"),
        (frame(DATA, SYN, 1, WINDOW_BYTES + 1), "more than its window"),
        (frame(WINDOW_UPDATE, SYN, 2, 0), "a number that is not its own"),
        (frame(WINDOW_UPDATE, SYN, 0, 0), "a number that is not its own"),
        (frame(WINDOW_UPDATE, SYN, 1, 0) * 2, "a number that is not its own"),
        (frame(DATA, SYN | FIN, 1, 0) + frame(DATA, 0, 1, 1, b"x"), "bytes on a stream that it had ended"),
        (frame(GO_AWAY, 0, 0, 0), "closed by the peer"),
        (
            frame(WINDOW_UPDATE, SYN, 1, 0) + frame(DATA, 0, 1, 65_536, bytes(65_536)) * 5,
            "more than its window",
        ),
    ],
)
async def test_a_peer_that_breaks_the_rules_loses_the_connection(attack: bytes, reason: str) -> None:
    hostile, ours = await secured_pair()
    muxer = Muxer(ours, ours.get_remote_peer())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.start)

        await hostile.write(attack)
        with trio.fail_after(5):
            await muxer.closed.wait()

        assert reason in muxer.close_reason
    await hostile.close()


async def test_data_for_a_stream_that_is_gone_is_passed_over() -> None:
    hostile, ours = await secured_pair()
    muxer = Muxer(ours, ours.get_remote_peer())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.start)

        await hostile.write(frame(DATA, 0, 7, 3, b"old") + frame(PING, SYN, 0, 5))
        answer = await hostile.read(HEADER.size)

        assert answer == frame(PING, ACK, 0, 5)
        muxer.abort("the test is over")
    await hostile.close()


async def test_a_peer_that_asks_and_never_reads_the_answers_is_cut_off() -> None:
    hostile, ours = await secured_pair()
    muxer = Muxer(ours, ours.get_remote_peer())
    pings = frame(PING, SYN, 0, 1) * 5_000

    async def flood() -> None:
        while not muxer.is_closed:
            await hostile.write(pings)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.start)
        with trio.move_on_after(8) as scope:
            async with trio.open_nursery() as flooding:
                flooding.start_soon(flood)
                await muxer.closed.wait()
                flooding.cancel_scope.cancel()

        assert not scope.cancelled_caught
        assert muxer.close_reason == "asked for answers without reading them"
    await hostile.close()


async def test_it_speaks_with_the_librarys_own_multiplexer() -> None:
    message = pattern(600_000)
    dialled, accepted = await secured_pair()
    theirs, ours = Yamux(dialled, dialled.get_remote_peer()), Muxer(accepted, accepted.get_remote_peer())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.start)
        nursery.start_soon(ours.start)
        await theirs.event_started.wait()
        their_stream = await theirs.open_stream()
        our_stream = await ours.accept_stream()

        nursery.start_soon(their_stream.write, message)
        received = await read_exactly(our_stream, len(message))
        nursery.start_soon(our_stream.write, message)
        returned = b""
        while len(returned) < len(message):
            returned += await their_stream.read(65_536)
        await our_stream.close()
        with pytest.raises(MuxedStreamEOF):
            await their_stream.read(1)

        assert received == message
        assert returned == message
        ours.abort("the test is over")
        await theirs.close()


async def test_bytes_that_were_changed_on_the_way_end_the_connection() -> None:
    hostile, ours = await secured_pair()
    muxer = Muxer(ours, ours.get_remote_peer())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.start)
        sealed = bytearray(hostile.conn.encrypt(frame(PING, SYN, 0, 1)))  # type: ignore[attr-defined]
        sealed[0] ^= 1

        await hostile.conn.read_writer.write_msg(bytes(sealed))  # type: ignore[attr-defined]
        with trio.fail_after(5):
            await muxer.closed.wait()

        assert muxer.close_reason == "bytes were changed on the way"
    await hostile.close()

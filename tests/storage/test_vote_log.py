import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import storage.vote_log as module
from storage.schema.codec import encode
from storage.vote_log import (
    PAGE_BYTES,
    VoteLog,
    VoteLogAheadError,
    VoteLogDamagedError,
    VoteLogForeignError,
    VoteLogFullError,
    VoteLogLostError,
)

OWNER = bytes(range(32))
SMALL_HALF_BYTES = 6 * PAGE_BYTES


@pytest.fixture(autouse=True)
def small_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HALF_BYTES", SMALL_HALF_BYTES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "votes.log"


@contextmanager
def opened(path: Path, *, ledger_height: int = 0, must_exist: bool = False, owner: bytes = OWNER) -> Iterator[VoteLog]:
    with closing(VoteLog.open(path, owner, ledger_height=ledger_height, must_exist=must_exist)) as log:
        yield log


def found(path: Path, ledger_height: int = 0) -> tuple[bytes, ...]:
    with opened(path, ledger_height=ledger_height, must_exist=True) as log:
        return log.records


def test_a_new_log_is_empty_private_and_of_full_size(path: Path) -> None:
    with opened(path) as log:
        assert log.records == ()

    assert path.stat().st_size == PAGE_BYTES + 2 * SMALL_HALF_BYTES
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_appended_is_found_again_in_order(path: Path) -> None:
    with opened(path) as log:
        log.append([b"view 1", b"prepare"])
        log.append([b""])
        log.append([b"commit" * 1000])

        assert log.synced_append_count == 3

    assert found(path) == (b"view 1", b"prepare", b"", b"commit" * 1000)


def test_a_log_goes_on_after_it_was_opened_again(path: Path) -> None:
    for number in range(4):
        with opened(path) as log:
            log.append([bytes([number])])

    assert found(path) == (b"\x00", b"\x01", b"\x02", b"\x03")


def test_after_a_truncation_only_what_was_carried_and_what_came_later_is_found(path: Path) -> None:
    with opened(path) as log:
        for height in range(1, 40):
            log.append([f"vote at {height}".encode()])
            log.truncate([f"view at {height}".encode()], height)
        log.append([b"vote at 40"])

    assert found(path, ledger_height=39) == (b"view at 39", b"vote at 40")


def test_until_the_next_append_a_truncation_forgets_nothing(path: Path) -> None:
    with opened(path) as log:
        log.append([b"view", b"vote"])
        log.truncate([b"view"], 1)

        assert log.records == (b"view",)

    assert found(path, ledger_height=1) == (b"view", b"vote")


def test_of_two_truncations_without_a_vote_between_them_the_later_one_counts(path: Path) -> None:
    with opened(path) as log:
        log.append([b"vote"])
        log.truncate([b"first"], 1)
        log.truncate([b"second"], 2)
        log.append([b"vote at 3"])

    assert found(path, ledger_height=2) == (b"second", b"vote at 3")


def test_a_log_grows_when_one_height_takes_more_than_a_half(path: Path) -> None:
    bodies = [bytes([number]) * 3 * PAGE_BYTES for number in range(8)]
    with opened(path) as log:
        for body in bodies:
            log.append([body])
        log.append([b"small"])

    assert found(path) == (*bodies, b"small")
    assert path.stat().st_size > PAGE_BYTES + 2 * SMALL_HALF_BYTES
    assert list(path.parent.iterdir()) == [path]


def test_a_log_does_not_grow_without_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HALF_BYTES_MAX", 2 * SMALL_HALF_BYTES)
    with opened(path) as log:
        log.append([bytes(SMALL_HALF_BYTES // 2)])

        with pytest.raises(VoteLogFullError):
            log.append([bytes(SMALL_HALF_BYTES)])


def test_a_log_that_was_begun_and_is_gone_is_not_begun_anew(path: Path) -> None:
    with pytest.raises(VoteLogLostError):
        found(path)

    assert not path.exists()


def test_the_log_of_another_key_is_refused(path: Path) -> None:
    with opened(path) as log:
        log.append([b"vote"])

    with pytest.raises(VoteLogForeignError), opened(path, owner=bytes(32)):
        pass


def test_a_ledger_that_was_set_back_behind_its_log_is_noticed(path: Path) -> None:
    with opened(path) as log:
        log.append([b"vote at 1"])
        log.truncate([], 5)
        log.append([b"vote at 6"])

    with pytest.raises(VoteLogAheadError):
        found(path, ledger_height=4)
    assert found(path, ledger_height=5) == (b"vote at 6",)


def test_nothing_is_appended_after_a_write_has_failed(path: Path) -> None:
    log = VoteLog.open(path, OWNER, ledger_height=0, must_exist=False)
    log.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        log.append([b"vote"])
    with pytest.raises(AssertionError):
        log.append([b"vote"])


def one_more_vote(log: VoteLog) -> None:
    log.append([b"new vote", b"body" * 1050])


def one_more_height(log: VoteLog) -> None:
    log.truncate([b"view 3"], 2)
    log.append([b"new vote", b"body" * 1050])


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        (one_more_vote, (b"view 2", b"vote"), (b"view 2", b"vote", b"new vote", b"body" * 1050)),
        (one_more_height, (b"view 2", b"vote"), (b"view 3", b"new vote", b"body" * 1050)),
    ],
    ids=["within a height", "first of a height"],
)
def test_an_append_cut_short_at_any_byte_leaves_all_that_stood_before(
    path: Path,
    tmp_path: Path,
    action: Callable[[VoteLog], None],
    before: tuple[bytes, ...],
    after: tuple[bytes, ...],
) -> None:
    with opened(path) as log:
        # Both halves have held generations of other lengths, so that what a crash uncovers is not all zeros.
        for height in (1, 2):
            log.append([b"old vote", b"old body" * 1200])
            log.append([b"old vote"])
            log.truncate([b"view 2"], height)
        log.append([b"vote"])
        old = path.read_bytes()
        action(log)
    new = path.read_bytes()
    changed = [at for at, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    first, last = changed[0], changed[-1]
    forwards, backwards = tmp_path / "forwards", tmp_path / "backwards"
    forwards.write_bytes(old)
    backwards.write_bytes(old)

    for step in range(last - first):
        put(forwards, first + step, new)
        assert found(forwards, ledger_height=2) == before
        # The disk may also have written the later sectors and not the earlier ones.
        put(backwards, last - step, new)
        assert found(backwards, ledger_height=2) == before
    put(forwards, last, new)
    put(backwards, first, new)
    assert found(forwards, ledger_height=2) == found(backwards, ledger_height=2) == after


def put(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content[at : at + 1])


def test_a_vote_after_a_cut_tail_stands_where_the_tail_was(path: Path) -> None:
    with opened(path) as log:
        log.append([b"first"])
        old = path.read_bytes()
        log.append([b"cut" * 5000])
    cut_at = PAGE_BYTES + SMALL_HALF_BYTES + 3 * PAGE_BYTES
    path.write_bytes(path.read_bytes()[:cut_at] + old[cut_at:])

    with opened(path) as log:
        assert log.records == (b"first",)
        log.append([b"second"])

    assert found(path) == (b"first", b"second")


def test_every_changed_byte_before_the_last_append_is_noticed(path: Path) -> None:
    with opened(path) as log:
        log.append([b"spent"])
        log.truncate([b"view"], 1)
        log.append([b"prepare", b"body" * 1100])
        log.append([b"commit"])
        log.append([b"view change"])
    whole = (b"view", b"prepare", b"body" * 1100, b"commit", b"view change")
    # Generation 2 stands in the half behind the header; a frame has 32 bytes before its records.
    frames = [(b"view", b"prepare", b"body" * 1100), (b"commit",), (b"view change",)]
    starts = [PAGE_BYTES, 3 * PAGE_BYTES, 4 * PAGE_BYTES]
    before, last = [range(76)], range(0)
    for start, records in zip(starts, frames, strict=True):
        last = range(start, start + 32 + len(encode(records)))
        before.append(last)
    content = path.read_bytes()

    for at in (at for part in before[:-1] for at in part):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        with pytest.raises((VoteLogDamagedError, VoteLogForeignError)):
            found(path, ledger_height=1)
    for at in last:
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        assert found(path, ledger_height=1) == whole[:-1]
    for at in set(range(len(content))[::97]).difference(*before):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        assert found(path, ledger_height=1) == whole


def test_a_log_of_another_length_is_damaged(path: Path) -> None:
    with opened(path) as log:
        log.append([b"vote"])
    content = path.read_bytes()

    for length in (0, 50, PAGE_BYTES, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(VoteLogDamagedError):
            found(path)


def test_bytes_that_others_chose_never_pass_for_a_promise_of_ours(path: Path, tmp_path: Path) -> None:
    # A body that holds a whole frame of this log's next generation, but made with another salt.
    twin = tmp_path / "twin.log"
    with opened(twin) as log:
        log.append([b"forged"])
    forged = twin.read_bytes()[PAGE_BYTES + SMALL_HALF_BYTES :][:PAGE_BYTES]
    with opened(path) as log:
        log.append([bytes(PAGE_BYTES - 32 - 1 - 3) + forged])
        stored = path.read_bytes()

    assert stored[PAGE_BYTES + SMALL_HALF_BYTES + PAGE_BYTES :].startswith(b"VOTE")
    torn = bytearray(stored)
    torn[PAGE_BYTES + SMALL_HALF_BYTES + 40] ^= 1
    path.write_bytes(torn)
    assert found(path) == ()


def test_a_copy_of_the_log_serves_as_the_log(path: Path, tmp_path: Path) -> None:
    with opened(path) as log:
        log.append([b"vote"])
    shutil.copy(path, tmp_path / "copy")

    assert found(tmp_path / "copy") == (b"vote",)

from contextlib import closing
from pathlib import Path

import pytest

from node.runtime.healing import can_be_had_anew, put_aside, take_arrived
from node.runtime.parts import open_ledger, open_vote_log, votes_file
from storage.database import DatabaseCorruptError
from storage.places import QUARANTINES_MAX, QuarantineFullError, quarantined
from storage.vote_log import VoteLogAheadError, VoteLogLostError
from tests.support.small_ledger import make_genesis, of_member

GENESIS = make_genesis()
KEY = of_member("west", "node").key
VOTES = votes_file(Path(), KEY).name
DAMAGE = DatabaseCorruptError("body", "flipped", 7)


def begun(data: Path) -> None:
    """A ledger and a vote log, as a first start leaves them."""
    with closing(open_ledger(data, GENESIS)) as ledger:
        open_vote_log(data, ledger, GENESIS, KEY).close()


def test_a_damaged_ledger_is_kept_as_it_was_found_with_the_reason_and_another_begins(tmp_path: Path) -> None:
    begun(tmp_path)
    files = sorted(path.name for path in (tmp_path / "ledger").iterdir())

    put_aside(tmp_path, DAMAGE, VOTES)
    with closing(open_ledger(tmp_path, GENESIS)) as ledger:
        height = ledger.head.height

    (kept,) = quarantined(tmp_path / "ledger")
    assert kept.why == "database.corrupt: body of block 7: flipped"
    assert sorted(path.name for path in (tmp_path / "quarantine" / kept.name / "ledger").iterdir()) == files
    assert height == 0


def test_where_a_ledger_was_put_aside_a_vote_log_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    begun(tmp_path)
    put_aside(tmp_path, DAMAGE, VOTES)
    (tmp_path / VOTES).unlink()

    with closing(open_ledger(tmp_path, GENESIS)) as ledger, pytest.raises(VoteLogLostError):
        open_vote_log(tmp_path, ledger, GENESIS, KEY)


def test_where_a_ledger_was_put_aside_the_vote_log_of_a_new_key_is_begun(tmp_path: Path) -> None:
    begun(tmp_path)
    put_aside(tmp_path, DAMAGE, VOTES)

    with closing(open_ledger(tmp_path, GENESIS)) as ledger:
        open_vote_log(tmp_path, ledger, GENESIS, of_member("west", "another node").key).close()


def test_a_vote_log_tells_up_to_which_block_a_ledger_that_was_set_back_must_come_again(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path, GENESIS)) as ledger:
        vote_log = open_vote_log(tmp_path, ledger, GENESIS, KEY)
        vote_log.truncate([b"a view"], 5)
        vote_log.append([b"a vote at 6"])
        vote_log.close()

        with pytest.raises(VoteLogAheadError) as ahead:
            open_vote_log(tmp_path, ledger, GENESIS, KEY)

    assert ahead.value.height == 5


def test_no_more_ledgers_are_put_aside_than_a_healthy_disk_would_damage(tmp_path: Path) -> None:
    for _ in range(QUARANTINES_MAX):
        begun(tmp_path)
        put_aside(tmp_path, DAMAGE, VOTES)
    begun(tmp_path)

    with pytest.raises(QuarantineFullError):
        put_aside(tmp_path, DAMAGE, VOTES)

    assert (tmp_path / "ledger").exists()
    assert len(quarantined(tmp_path / "ledger")) == QUARANTINES_MAX


def test_what_is_damaged_on_its_way_is_removed_and_never_takes_the_place_of_the_ledger(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "arriving").mkdir()
    (tmp_path / "arriving" / "CURRENT").write_text("nothing")

    take_arrived(tmp_path, GENESIS)

    assert not (tmp_path / "arriving").exists()
    with closing(open_ledger(tmp_path, GENESIS)) as ledger:
        assert ledger.history_from == 1


@pytest.mark.parametrize(
    ("reached", "can"), [((), False), ((9,), False), ((9, 3), False), ((9, 9), True), ((10, 12, 2), True)]
)
def test_a_ledger_is_put_aside_while_running_only_if_an_honest_member_holds_as_much(
    reached: tuple[int, ...], can: bool
) -> None:
    assert can_be_had_anew(9, reached, 4) is can

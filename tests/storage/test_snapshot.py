from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from storage.arriving import Arriving, is_whole
from storage.database import HistoryError
from storage.history import HistoryMismatchError, check_past_block
from storage.places import arriving_folder, replace_ledger
from storage.schema.calls import RequestAccess
from storage.schema.codec import encode
from storage.snapshot import FOUNDATION, Foundation, Part, SnapshotError, check_foundation
from tests.support.arrivals import NODE_KEY, arrive, depth_of, held, kept, on, opened, take_one_below
from tests.support.chain import certify
from tests.support.provisions import provision
from tests.support.small_ledger import Actor
from tests.support.story import Story


def test_a_state_that_has_arrived_is_the_one_that_was_held_and_goes_on_like_it(story: Story, target: Path) -> None:
    snapshot = held(story)
    story.register(Actor("a patient who comes later"))
    later = kept(story).block(kept(story).head.height)

    assert arrive(story, target, snapshot)
    replace_ledger(target)

    with closing(opened(story, target)) as ledger:
        assert ledger.head.header == snapshot.foundation.header
        assert ledger.has_vote_log(NODE_KEY)
        transactions = check_past_block(
            kept(story).encoded_whole_block(later.header.height),
            (later.header.digest(), later.result.digest()),
            kept(story).epochs,
        ).transactions
        on(story, ledger).append(transactions, later.header.time_ms)
        assert ledger.head.digest == later.header.digest()
        assert ledger.head.result == later.result


def test_an_id_that_was_seen_is_known_and_that_its_block_is_not_here_is_said(story: Story, target: Path) -> None:
    seen = story.sign("access.request", RequestAccess(story.record, "TREAT"), [story.ben], "south")
    story.order(seen)

    arrive(story, target, held(story))
    replace_ledger(target)

    with closing(opened(story, target)) as ledger:
        assert ledger.contains(seen.id)
        assert ledger.history_from == ledger.head.height + 1
        for ask in (ledger.locate, ledger.receipt):
            with pytest.raises(HistoryError, match=f"from block {ledger.history_from} on"):
                ask(seen.id)
        with pytest.raises(HistoryError):
            ledger.block(1)
        assert ledger.header(0) == story.genesis.header


def with_other_state(story: Story, foundation: Foundation) -> Foundation:
    return msgspec.structs.replace(foundation, parts=foundation.parts[32:] + foundation.parts[:32])


def with_other_history(story: Story, foundation: Foundation) -> Foundation:
    return msgspec.structs.replace(foundation, peaks=(bytes(32), *foundation.peaks[1:]))


def with_too_few_signers(story: Story, foundation: Foundation) -> Foundation:
    certificate = certify(story.genesis, foundation.header, foundation.result, signers=(0, 1))
    return msgspec.structs.replace(foundation, certificate=certificate)


def with_another_result(story: Story, foundation: Foundation) -> Foundation:
    return msgspec.structs.replace(foundation, result=msgspec.structs.replace(foundation.result, outcome_count=9))


def with_too_few_parts(story: Story, foundation: Foundation) -> Foundation:
    return msgspec.structs.replace(foundation, parts=foundation.result.state_root)


@pytest.mark.parametrize(
    "tamper",
    [with_other_state, with_other_history, with_too_few_signers, with_another_result, with_too_few_parts],
)
def test_a_foundation_hangs_on_its_certificate_with_all_that_it_states(
    story: Story, tamper: Callable[[Story, Foundation], Foundation]
) -> None:
    foundation = FOUNDATION.decode(encode(held(story).foundation))

    epochs = check_foundation(foundation, story.genesis)
    assert epochs.newest == story.genesis.validators
    with pytest.raises(SnapshotError):
        check_foundation(tamper(story, foundation), story.genesis)


def changed(part: Part) -> Part:
    return ((part[0][0], part[0][1] + b"\x00"), *part[1:])


def without_one(part: Part) -> Part:
    return part[1:]


def with_one_more(part: Part) -> Part:
    return (*part, (part[-1][0][:-1] + b"\xff", b"more"))


def twice(part: Part) -> Part:
    return part + part


@pytest.mark.parametrize("tamper", [changed, without_one, with_one_more, twice])
def test_of_parts_that_are_not_what_the_certificate_covers_nothing_is_written(
    story: Story, target: Path, tamper: Callable[[Part], Part]
) -> None:
    snapshot = held(story)
    target.parent.mkdir()
    with closing(Arriving.open(arriving_folder(target), depth_of(story))) as arriving:
        arriving.begin(snapshot.foundation)
        good, bad, *_ = missing = arriving.missing

        with pytest.raises(SnapshotError):
            arriving.add_parts({good: snapshot.part(good), bad: tamper(snapshot.part(bad))})

        assert arriving.missing == missing
        assert list(arriving._database.scan(b"s")) == []


def test_a_list_of_seen_ids_that_is_changed_or_left_out_is_noticed(story: Story, target: Path) -> None:
    snapshot = held(story)
    target.parent.mkdir()
    with closing(Arriving.open(arriving_folder(target), depth_of(story))) as arriving:
        arriving.begin(snapshot.foundation)
        arriving.add_parts({part: snapshot.part(part) for part in arriving.missing})
        first, *others = snapshot.seen_after(0, 0)

        with pytest.raises(SnapshotError):
            arriving.add_seen([msgspec.structs.replace(first, ids=first.ids[:-1] + b"\x00")])
        arriving.add_seen(others)
        without_the_first = arriving.is_every_list_here
        with pytest.raises(SnapshotError):
            arriving.add_seen([first])

    assert len(others) > 10
    assert not without_the_first


def test_what_was_interrupted_goes_on_and_parts_that_changed_since_come_anew(story: Story, target: Path) -> None:
    early = held(story)
    arrive(story, target, early, parts_max=15)
    half_way = is_whole(arriving_folder(target), story.genesis)
    story.register(Actor("a patient who comes meanwhile"))
    late = held(story)
    with closing(Arriving.open(arriving_folder(target), depth_of(story))) as arriving:
        arriving.begin(late.foundation)
        missing = arriving.missing

    assert arrive(story, target, late)
    whole = is_whole(arriving_folder(target), story.genesis)
    replace_ledger(target)

    assert (half_way, whole) == (False, True)
    same = sum(early.part(part) == late.part(part) != () for part in range(4096))
    assert len(missing) >= sum(late.part(part) != () for part in range(4096)) - 15
    assert len(missing) < same
    with closing(opened(story, target)) as ledger:
        assert ledger.head.header == late.foundation.header


def test_damage_in_what_arrives_lets_it_begin_anew(story: Story, target: Path) -> None:
    arrive(story, target, held(story), parts_max=15)
    (arriving_folder(target) / "CURRENT").write_text("nothing")

    assert arrive(story, target, held(story))
    assert is_whole(arriving_folder(target), story.genesis)


def test_a_ledger_that_was_replaced_is_kept_until_its_history_is_here_again(story: Story, target: Path) -> None:
    opened(story, target).close()
    arrive(story, target, held(story))

    replace_ledger(target)

    assert sorted(path.name for path in target.parent.iterdir()) == ["ledger", "ledger.before", "ledger.created"]


def test_history_comes_back_block_by_block_until_everything_is_as_if_it_had_never_been_away(
    story: Story, target: Path
) -> None:
    consent = story.grant(provision(practitioners=(story.ben.key,), purposes=("TREAT",)))
    receipts = {}
    arrive(story, target, held(story))
    replace_ledger(target)
    source = kept(story)

    with closing(opened(story, target)) as ledger:
        while ledger.history_from > 1:
            past = take_one_below(story, ledger)
            ids = [transaction.id for transaction in past.transactions]
            receipts.update({tx_id: ledger.receipt(tx_id) for tx_id in ids})

        assert all(source.receipt(tx_id) == receipt for tx_id, receipt in receipts.items())
        assert list(ledger.trail(consent, limit=9)) == list(source.trail(consent, limit=9)) != []
        for area in (b"h", b"c", b"r", b"e", b"o", b"t", b"s", b"n", b"a", b"f"):
            assert list(ledger.database.scan(area)) == list(source.database.scan(area))


def test_a_block_of_the_past_that_is_not_the_one_below_is_not_taken(story: Story, target: Path) -> None:
    source = kept(story)
    height = source.head.height - 1
    link = (source.header(height).digest(), source.result(height).digest())
    block = source.block(height)
    whole = encode([block.header, block.certificate, block.result, block.envelopes, block.outcomes])
    another = source.outcomes(height - 1)

    assert check_past_block(whole, link, source.epochs).block == block
    for wrong in (
        source.encoded_whole_block(height - 1),
        encode([block.header, source.certificate(height - 1), block.result, block.envelopes, block.outcomes]),
        encode([block.header, block.certificate, block.result, (), block.outcomes]),
        encode([block.header, block.certificate, block.result, block.envelopes, another]),
        whole[:-1],
    ):
        with pytest.raises(HistoryMismatchError):
            check_past_block(wrong, link, source.epochs)

import pytest

from node.mempool import RESERVED_PARTS, Mempool, MempoolFullError
from storage.schema.calls import RequestAccess, Revoke
from storage.schema.signatures import public_key_of
from storage.schema.transaction import (
    Transaction,
    decode_transaction,
    encode_body,
    encode_envelope,
    sign_body,
)

SEED = bytes(range(32))


def waiting(number: int, payer: str = "north", *, urgent: bool = False) -> Transaction:
    signers = [public_key_of(SEED)]
    method, call = (
        ("consent.revoke", Revoke(bytes(32))) if urgent else ("access.request", RequestAccess(bytes(32), "TREAT"))
    )
    body = encode_body(bytes(32), number.to_bytes(16, "big"), 10, payer, signers, method, call)
    return decode_transaction(encode_envelope(body, [sign_body(body, SEED)]))


def twin(transaction: Transaction) -> Transaction:
    """Another envelope of the same body; the pool does not look at signatures."""
    return decode_transaction(encode_envelope(transaction.body_bytes, [bytes(64)]))


def test_a_transaction_is_found_by_its_id_and_by_its_exact_envelope() -> None:
    pool, transaction = Mempool(), waiting(1)

    assert pool.add(transaction)

    assert transaction.id in pool
    assert pool.by_leaf(transaction.leaf) is transaction
    assert pool.by_leaf(twin(transaction).leaf) is None


def test_a_second_envelope_of_the_same_transaction_is_not_taken() -> None:
    pool, transaction = Mempool(), waiting(1)
    pool.add(transaction)

    assert not pool.add(twin(transaction))

    assert len(pool) == 1
    assert pool.size_bytes == len(transaction.envelope)


def test_a_full_pool_refuses_and_keeps_what_it_has() -> None:
    pool = Mempool(transactions_max=4)
    for number, payer in enumerate(["north", "north", "south", "south"]):
        pool.add(waiting(number, payer))

    with pytest.raises(MempoolFullError) as refusal:
        pool.add(waiting(9, "east"))

    assert refusal.value.code == "mempool.full"
    assert len(pool) == 4


def test_a_pool_is_bounded_in_bytes_too() -> None:
    size = len(waiting(0).envelope)
    pool = Mempool(transactions_max=100, bytes_max=2 * size)
    pool.add(waiting(0))
    pool.add(waiting(1))

    with pytest.raises(MempoolFullError):
        pool.add(waiting(2))


def test_a_full_pool_still_takes_the_first_few_of_each_member_and_of_its_urgent_ones() -> None:
    pool = Mempool(transactions_max=2 * RESERVED_PARTS)
    for number in range(2 * RESERVED_PARTS):
        pool.add(waiting(number, ("north", "south")[number % 2]))

    taken = [pool.add(waiting(10_000 + number, "east")) for number in range(2)]
    taken += [pool.add(waiting(20_000 + number, urgent=True)) for number in range(2)]

    assert taken == [True] * 4
    for refused in (waiting(10_002, "east"), waiting(20_002, urgent=True), waiting(30_000)):
        with pytest.raises(MempoolFullError):
            pool.add(refused)


def test_one_payer_fills_at_most_half_of_the_pool() -> None:
    pool = Mempool(transactions_max=6)
    for number in range(3):
        pool.add(waiting(number))

    with pytest.raises(MempoolFullError):
        pool.add(waiting(4))

    assert pool.add(waiting(5, "south"))


def test_what_is_taken_for_a_block_takes_turns_between_payers() -> None:
    pool = Mempool()
    flood = [waiting(number) for number in range(100)]
    for transaction in [*flood, waiting(200, "south"), waiting(201, "south")]:
        pool.add(transaction)

    chosen = pool.fair(4)

    assert [transaction.body.payer for transaction in chosen] == ["north", "south", "north", "south"]
    assert chosen[0] is flood[0]


def test_a_revocation_comes_before_all_that_is_not_urgent() -> None:
    pool = Mempool()
    for number in range(10):
        pool.add(waiting(number))
    revocation = waiting(99, urgent=True)
    pool.add(revocation)

    chosen = pool.fair(3)

    assert chosen[0] is revocation
    assert len(chosen) == 3


def test_what_was_committed_is_forgotten_and_its_room_is_free_again() -> None:
    pool, transaction = Mempool(transactions_max=2), waiting(1)
    pool.add(transaction)

    pool.remove([transaction.id, bytes(32)])

    assert len(pool) == 0
    assert pool.size_bytes == 0
    assert pool.by_leaf(transaction.leaf) is None
    assert pool.add(waiting(2))

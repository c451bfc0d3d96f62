import json
import random
import tracemalloc
from hashlib import sha256
from typing import Any

import msgpack
import pytest
from msgspec.structs import replace
from nacl.bindings import crypto_scalarmult_base

from storage.merkle.log import EMPTY_ROOT
from storage.schema.codec import encode
from storage.schema.genesis import (
    GENESIS_BYTES_MAX,
    PARAMETER_BOUNDS,
    GenesisError,
    Member,
    Parameters,
    chain_id_of,
    check_body,
    encode_body,
    founding_preimage,
    load_file,
    render_file,
)
from storage.schema.signatures import public_key_of, sign
from storage.schema.validators import VALIDATORS_MAX
from tests.support.vectors import seed_of, vector_bytes, vector_genesis, vectors

FOUNDING = vectors("founding")
BODY = bytes.fromhex(FOUNDING["body"])
FILE = vector_bytes("genesis.json")


def refused(data: bytes) -> str:
    with pytest.raises(GenesisError) as error:
        load_file(data)
    return str(error.value)


def founders_signatures(body: bytes) -> dict[str, bytes]:
    preimage = founding_preimage(chain_id_of(body))
    return {member.name: sign(seed_of(f"{member.name}/organisation"), preimage) for member in vector_members()}


def vector_members() -> tuple[Member, ...]:
    return vector_genesis().body.members


def test_the_genesis_of_the_vectors_founds_its_network() -> None:
    genesis = load_file(FILE)

    assert genesis.chain_id.hex() == chain_id_of(BODY).hex() == FOUNDING["chain_id"]
    assert founding_preimage(genesis.chain_id).hex() == FOUNDING["founding_preimage"]
    assert encode(genesis.validators).hex() == FOUNDING["validator_set"]
    assert encode(genesis.header).hex() == FOUNDING["first_header"]
    assert genesis.header.digest().hex() == FOUNDING["first_digest"]
    assert genesis.header.history_root == genesis.header.tx_root == EMPTY_ROOT
    assert genesis.parameters == Parameters()


def test_the_file_is_written_as_the_vectors_have_it() -> None:
    members = tuple(reversed(vector_members()))

    body = encode_body("vectors", Parameters(), members)

    assert body == BODY
    assert render_file(body, founders_signatures(body)) == FILE


def test_members_are_found_by_name() -> None:
    genesis = vector_genesis()

    ministry = genesis.member("ministry")

    assert ministry is not None
    assert ministry.roles == ("observer",)
    assert genesis.member("nobody") is None


@pytest.mark.parametrize("case", FOUNDING["refused_bodies"], ids=lambda case: case["why"])
def test_a_body_that_cannot_found_a_network_is_refused(case: dict[str, str]) -> None:
    body = bytes.fromhex(case["body"])

    with pytest.raises(GenesisError) as error:
        check_body(body)

    assert error.value.code == "genesis.invalid"
    assert "\x1b" not in str(error.value)


def test_a_file_with_any_bit_of_any_byte_flipped_is_refused() -> None:
    accepted = []
    for at in range(len(FILE)):
        for bit in range(8):
            changed = bytearray(FILE)
            changed[at] ^= 1 << bit
            try:
                load_file(bytes(changed))
            except GenesisError:
                continue
            accepted.append((at, bit))

    assert accepted == []


def test_a_file_with_a_byte_put_in_or_left_out_is_refused(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(500):
        at = generator.randrange(len(FILE) + 1)
        refused(FILE[:at] + generator.choice([b" ", b"\n", b"0", b"\x00"]) + FILE[at:])
        refused(FILE[:at] + FILE[at + 1 :] if at < len(FILE) else FILE[:-1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"body": "zz", "signatures": {}}',
        b'{"body": 5, "signatures": {}}',
        b'{"body": "00", "signatures": []}',
        b'{"body": "00", "signatures": {"east": 1}}',
        b'{"body": "' + b"9" * 2000 + b'", "signatures": {}}',
        b"9" * 5000,
        FILE.decode().encode("utf-16"),
        json.dumps(json.loads(FILE)).encode(),
        FILE + b"\n",
    ],
    ids=lambda data: f"{len(data)} bytes {data[:12]!r}",
)
def test_what_is_not_the_canonical_file_is_refused(data: bytes) -> None:
    refused(data)


def test_a_file_over_its_limit_is_refused_before_it_is_read() -> None:
    assert "too large" in refused(b"[" * (GENESIS_BYTES_MAX + 1))


def test_a_body_of_a_hundred_thousand_parameters_is_refused_without_holding_them() -> None:
    parameters = b"\xdd" + (100_000).to_bytes(4, "big") + b"\x92\xa1p\x00" * 100_000
    fields = msgpack.unpackb(BODY)
    body = b"\x97" + b"".join(map(msgpack.packb, fields[:5])) + parameters + msgpack.packb(fields[6])

    tracemalloc.start()
    with pytest.raises(GenesisError, match="length <= 64"):
        check_body(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 100_000


def test_every_founder_must_have_signed() -> None:
    signatures = founders_signatures(BODY)
    del signatures["ministry"]

    assert "not every founder has signed" in refused(render_file(BODY, signatures))


def test_nobody_else_may_have_signed() -> None:
    signatures = {**founders_signatures(BODY), "zeta": bytes(64)}

    assert "not every founder has signed" in refused(render_file(BODY, signatures))


@pytest.mark.parametrize("other", [bytes(64), b"", bytes(63)])
def test_each_signature_must_verify_under_the_organisation_key(other: bytes) -> None:
    signatures = {**founders_signatures(BODY), "south": other}

    assert "the signature of south does not verify" in refused(render_file(BODY, signatures))


def test_founders_cannot_sign_for_each_other() -> None:
    signatures = founders_signatures(BODY)
    signatures["east"] = signatures["west"]

    assert "the signature of east does not verify" in refused(render_file(BODY, signatures))


def test_signatures_over_another_body_do_not_count() -> None:
    other = encode_body("others", Parameters(), vector_members())

    assert "does not verify" in refused(render_file(other, founders_signatures(BODY)))


def test_the_readable_part_cannot_say_something_else() -> None:
    assert "canonical rendering" in refused(FILE.replace(b'"permit_s": 600', b'"permit_s": 601'))
    assert "canonical rendering" in refused(FILE.replace(b'"tree_depth": 4', b'"tree_depth": 4.0'))


@pytest.mark.parametrize("name", PARAMETER_BOUNDS)
def test_a_parameter_stands_between_its_bounds(name: str) -> None:
    least, most = PARAMETER_BOUNDS[name]

    assert all(getattr(Parameters(**{name: value}), name) == value for value in (least, most))
    for value in (least - 1, most + 1):
        with pytest.raises(GenesisError, match=name):
            Parameters(**{name: value})


def test_every_parameter_has_bounds_and_every_default_keeps_them() -> None:
    assert [name for name, _ in Parameters().pairs()] == sorted(PARAMETER_BOUNDS)


def test_the_largest_network_that_can_be_written_down_fits_its_file() -> None:
    template = vector_members()[0]
    members = []
    for number in range(VALIDATORS_MAX):
        keys: dict[str, Any] = {
            f"{kind}_key": public_key_of(named_seed(f"{number}/{kind}")) for kind in ("organisation", "node", "service")
        }
        keys["encryption_key"] = crypto_scalarmult_base(named_seed(f"{number}/encryption"))
        addresses = ("/dns4/" + "a" * 250,) * 8
        members.append(replace(template, name=f"member-{number:025}", addresses=addresses, **keys))
    body = encode_body("n" * 32, Parameters(), tuple(members))
    preimage = founding_preimage(chain_id_of(body))
    signatures = {
        member.name: sign(named_seed(f"{number}/organisation"), preimage) for number, member in enumerate(members)
    }

    assert len(load_file(render_file(body, signatures)).validators.validators) == VALIDATORS_MAX


def named_seed(name: str) -> bytes:
    return sha256(name.encode()).digest()

"""The parts of the bench that need no network: its people, its machine, its arithmetic and its own honesty."""

from itertools import islice
from pathlib import Path

import pytest

from cli.bench import _check, _net, _quantiles
from cli.bench_machine import describe_machine, filesystem_of, verify_rate
from cli.bench_people import Population, base_grants, make_person, signed, workload
from cli.errors import CliError
from storage.schema.calls import Grant, RequestAccess
from storage.schema.transaction import Transaction, decode_transaction
from tests.support.program import answer_of, caretrace

CHAIN_ID = bytes(range(32))


def population(patients: int, practitioners: int = 3) -> Population:
    people = tuple(make_person(f"member-{number % 4}") for number in range(patients + practitioners))
    records = tuple(bytes([number]) * 32 for number in range(patients))
    return Population(CHAIN_ID, people[:patients], people[patients:], records)


def calls(people: Population, offset: int, step: int, count: int) -> list[Transaction]:
    return [decode_transaction(envelope) for envelope in islice(workload(people, offset, step), count)]


def test_every_call_of_the_load_is_well_signed_and_paid_by_its_signers_member() -> None:
    people = population(5)

    for transaction in calls(people, 0, 1, 20):
        transaction.verify_signatures()
        signer = next(
            each for each in (*people.patients, *people.practitioners) if each.key in transaction.body.signers
        )
        assert transaction.body.payer == signer.member
        assert transaction.body.chain_id == CHAIN_ID
        assert 200 <= len(transaction.envelope) <= 350


def test_half_of_the_load_are_grants_and_half_requests_that_an_earlier_grant_permits() -> None:
    people = population(5)
    granted = {
        (grant.body.signers[0], grant.arguments.provision.practitioners[0])
        for grant in map(decode_transaction, base_grants(people))
    }

    grants, requests = calls(people, 0, 1, 20)[::2], calls(people, 0, 1, 20)[1::2]

    assert all(isinstance(grant.arguments, Grant) for grant in grants)
    for request in requests:
        assert isinstance(request.arguments, RequestAccess)
        patient = people.patients[people.records.index(request.arguments.record)]
        assert (patient.key, request.body.signers[0]) in granted


def test_workers_share_the_patients_out_between_them() -> None:
    people = population(12)

    signers = [{call.body.signers[0] for call in calls(people, offset, 4, 6)[::2]} for offset in range(4)]

    assert [len(keys) for keys in signers] == [3, 3, 3, 3]
    assert len(set.union(*signers)) == 12


def test_no_two_calls_are_the_same_transaction() -> None:
    person = make_person("north")
    call = RequestAccess(bytes(32), "TREAT")

    ids = {decode_transaction(signed(CHAIN_ID, person, "access.request", call)).id for _ in range(50)}

    assert len(ids) == 50


def test_quantiles_are_those_of_the_latencies_and_none_of_too_few() -> None:
    assert _quantiles([float(number) for number in range(101)]) == {"p50": 50.0, "p90": 90.0, "p99": 99.0}
    assert _quantiles([5.0, 5.0]) == {"p50": 5.0, "p90": 5.0, "p99": 5.0}
    assert _quantiles([5.0]) == _quantiles([]) == {"p50": None, "p90": None, "p99": None}


def counted(**changed: int) -> dict[str, int]:
    figures = {"signatures_verified": 10, "transactions_committed": 10, "transactions_refused": 2}
    return figures | {"blocks_committed": 3, "synced_batches": 3} | changed


def test_refusals_are_no_throughput() -> None:
    assert _net(counted()) == 8


def test_a_bench_in_which_nothing_was_left_out_passes_its_own_checks() -> None:
    _check([counted(), counted(), counted(), counted(signatures_verified=12)])


@pytest.mark.parametrize(
    ("changed", "code"), [({"signatures_verified": 9}, "bench.unverified"), ({"synced_batches": 2}, "bench.unsynced")]
)
def test_a_bench_that_left_something_out_gives_no_figures(changed: dict[str, int], code: str) -> None:
    with pytest.raises(CliError) as refused:
        _check([counted(), counted(), counted(), counted(**changed)])

    assert refused.value.code == code


def test_the_filesystem_is_that_of_the_longest_mount_that_holds_the_folder(tmp_path: Path) -> None:
    kinds = {line.split(" ")[2] for line in Path("/proc/mounts").read_text().splitlines()}

    assert filesystem_of(Path("/proc/self")) == "proc"
    assert filesystem_of(tmp_path) in kinds


def test_a_folder_in_memory_is_refused() -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or filesystem_of(memory) != "tmpfs":
        pytest.skip("this machine has no tmpfs at /dev/shm")

    with pytest.raises(CliError) as refused:
        describe_machine(memory)

    assert refused.value.code == "bench.in_memory"


def test_one_core_verifies_thousands_of_signatures_a_second() -> None:
    assert verify_rate() > 500


def test_a_folder_that_is_not_there_is_named_before_anything_is_started(tmp_path: Path) -> None:
    error = answer_of(caretrace("bench", "--dir", "nowhere", "--json", folder=tmp_path), 2)["error"]

    assert error["code"] == "usage"
    assert "'nowhere' does not exist" in error["message"]

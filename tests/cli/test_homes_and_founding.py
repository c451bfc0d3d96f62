import json
import stat
from pathlib import Path

import pytest

from node.config import Home, load_config
from node.keys.keyfile import load_key_file
from storage.schema.genesis import load_file
from tests.support.full_disk import files_no_larger_than
from tests.support.program import answer_of, caretrace

NAMES = ("east", "north", "south", "west")


def init(folder: Path, name: str, *more: str) -> dict[str, object]:
    arguments = ("init", "--name", name, "--home", name, "--no-passphrase", "--json", *more)
    return answer_of(caretrace(*arguments, folder=folder))


def founded(folder: Path) -> Path:
    for name in NAMES:
        init(folder, name)
    answer_of(caretrace("found", *(f"{name}/card.json" for name in NAMES), "--json", folder=folder))
    for name in NAMES:
        answer_of(caretrace("found", "sign", "--key", f"{name}-organisation.key", "--json", folder=folder))
    return folder / "genesis.json"


def test_a_home_is_made_with_keys_settings_and_a_card_and_the_cold_key_outside(tmp_path: Path) -> None:
    answer = init(tmp_path, "north", "--host", "north.example", "--port", "4102", "--http", "127.0.0.1:8101")

    home = Home(tmp_path / "north")
    card = json.loads(home.card_file.read_text())
    keys = load_key_file(home.key_file)
    config = load_config(home, {})
    cold = load_key_file(tmp_path / "north-organisation.key")
    assert answer["organisation_key"] == "north-organisation.key"
    assert {name: card[f"{name}_key"] for name in keys.public} == {n: key.hex() for n, key in keys.public.items()}
    assert card["organisation_key"] == cold.public["organisation"].hex()
    assert (config.name, config.http_tcp) == ("north", "127.0.0.1:8101")
    assert config.advertise == ("/dns/north.example/tcp/4102",) == tuple(card["addresses"])
    assert config.listen == ("/ip4/0.0.0.0/tcp/4102",)
    assert stat.S_IMODE(home.path.stat().st_mode) == stat.S_IMODE(home.key_file.parent.stat().st_mode) == 0o700


def test_the_cold_key_is_said_loudly(tmp_path: Path) -> None:
    done = caretrace("init", "--name", "north", "--home", "north", "--no-passphrase", folder=tmp_path)

    assert "TAKE north-organisation.key OFFLINE" in done.stdout


def test_two_passphrases_seal_the_hot_and_the_cold_keys(tmp_path: Path) -> None:
    (tmp_path / "hot").write_text("hot secret\n")
    (tmp_path / "cold").write_text("cold secret\n")

    caretrace(
        *("init", "--name", "north", "--home", "north"),
        *("--passphrase-file", "hot", "--organisation-passphrase-file", "cold"),
        folder=tmp_path,
    )

    assert load_key_file(tmp_path / "north" / "keys" / "node.key").open_secrets(b"hot secret")
    assert load_key_file(tmp_path / "north-organisation.key").open_secrets(b"cold secret")


@pytest.mark.parametrize(
    ("prepare", "more", "code", "exit_code"),
    [
        (("north/keep",), (), "home.exists", 1),
        (("north",), (), "usage", 2),
        (("north-organisation.key",), (), "keyfile.exists", 1),
        ((), ("--organisation-key", "north/cold.key"), "organisation_key.in_home", 1),
        ((), ("--name", "North"), "config.invalid", 2),
        ((), ("--host", "no host"), "config.invalid", 2),
        ((), ("--http", "everywhere"), "config.invalid", 2),
        ((), ("--home", "x" * 100), "config.invalid", 2),
    ],
    ids=[
        "a full home",
        "a file in its place",
        "a cold key",
        "the cold key inside",
        "name",
        "host",
        "http",
        "a long path",
    ],
)
def test_what_is_there_is_kept_and_what_is_wrong_is_not_begun(
    tmp_path: Path, prepare: tuple[str, ...], more: tuple[str, ...], code: str, exit_code: int
) -> None:
    for name in prepare:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    done = caretrace("init", "--name", "north", "--home", "north", "--no-passphrase", "--json", *more, folder=tmp_path)

    assert answer_of(done, exit_code)["error"]["code"] == code
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_home_that_cannot_be_made_leaves_no_organisation_key_that_would_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    failed = caretrace("init", "--name", "north", "--home", "file/north", "--no-passphrase", folder=tmp_path)
    left = [path.name for path in tmp_path.iterdir()]
    init(tmp_path, "north")

    assert failed.returncode == 1
    assert left == ["file"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_disk_that_takes_half_a_home_keeps_nothing_of_it(tmp_path: Path, is_there: bool) -> None:
    init(tmp_path, "whole")
    size_bytes = (tmp_path / "whole-organisation.key").stat().st_size
    if is_there:
        (tmp_path / "north").mkdir()
    before = sorted(tmp_path.rglob("*"))

    with files_no_larger_than(size_bytes):
        failed = caretrace("init", "--name", "north", "--home", "north", "--no-passphrase", folder=tmp_path)

    assert failed.returncode == 1
    assert sorted(tmp_path.rglob("*")) == before
    init(tmp_path, "north")


def test_four_founders_sign_one_after_the_other_and_the_last_signature_makes_genesis(tmp_path: Path) -> None:
    for name in NAMES:
        init(tmp_path, name)

    draft = answer_of(
        caretrace("found", *(f"{n}/card.json" for n in NAMES), "--network", "net", "--json", folder=tmp_path)
    )
    steps = [
        answer_of(
            caretrace(
                *("found", "sign", "--key", f"{name}-organisation.key", "--card", f"{name}/card.json", "--json"),
                folder=tmp_path,
            )
        )
        for name in NAMES
    ]

    genesis = load_file((tmp_path / "genesis.json").read_bytes())
    assert (draft["schema"], draft["missing"]) == ("caretrace.found/1", list(NAMES))
    assert [step["missing"] for step in steps] == [list(NAMES[1:]), list(NAMES[2:]), list(NAMES[3:]), []]
    assert {step["chain_id"] for step in steps} == {draft["chain_id"]} == {genesis.chain_id.hex()}
    assert genesis.body.name == "net"
    assert not (tmp_path / "genesis.draft.json").exists()


def test_a_limit_of_the_network_may_be_chosen_by_name(tmp_path: Path) -> None:
    for name in NAMES:
        init(tmp_path, name)
    cards = [f"{name}/card.json" for name in NAMES]

    unknown = caretrace("found", *cards, "--parameter", "speed=9", folder=tmp_path)
    done = caretrace("found", *cards, "--parameter", "permit_s=60", folder=tmp_path)

    assert unknown.returncode == 2
    assert done.returncode == 0
    assert json.loads((tmp_path / "genesis.draft.json").read_text())["readable"]["parameters"]["permit_s"] == 60


def test_too_few_or_twice_the_same_found_no_network(tmp_path: Path) -> None:
    for name in NAMES:
        init(tmp_path, name)
    card = {name: f"{name}/card.json" for name in NAMES}

    three = caretrace("found", card["east"], card["north"], card["south"], "--json", folder=tmp_path)
    twice = caretrace("found", *[card["east"]] * 4, "--json", folder=tmp_path)
    none = caretrace("found", card["east"], "nowhere.json", "--json", folder=tmp_path)

    assert answer_of(three, 1)["error"]["code"] == "founding.too_few"
    assert answer_of(twice, 6)["error"]["code"] == "genesis.invalid"
    assert answer_of(none, 1)["error"]["code"] == "system.error"
    assert not (tmp_path / "genesis.draft.json").exists()


def drafted(folder: Path) -> Path:
    for name in NAMES:
        init(folder, name)
    caretrace("found", *(f"{name}/card.json" for name in NAMES), folder=folder)
    return folder / "genesis.draft.json"


def test_a_founder_signs_no_draft_that_states_their_card_otherwise(tmp_path: Path) -> None:
    draft = drafted(tmp_path)
    before = draft.read_bytes()
    card = json.loads((tmp_path / "north" / "card.json").read_text()) | {"addresses": ["/ip4/6.6.6.6/tcp/1"]}
    (tmp_path / "mine.json").write_text(json.dumps(card))

    arguments = ("found", "sign", "--key", "north-organisation.key", "--card", "mine.json", "--json")
    done = caretrace(*arguments, folder=tmp_path)

    assert answer_of(done, 1)["error"]["code"] == "founding.card_differs"
    assert draft.read_bytes() == before


def test_what_a_draft_shows_is_what_is_signed_or_nothing_is_signed(tmp_path: Path) -> None:
    draft = drafted(tmp_path)
    draft.write_bytes(draft.read_bytes().replace(b'"permit_s": 600', b'"permit_s": 60'))

    done = caretrace("found", "sign", "--key", "north-organisation.key", "--json", folder=tmp_path)

    error = answer_of(done, 6)["error"]
    assert error["code"] == "genesis.invalid"
    assert "readably" in error["message"]


def test_a_stranger_cannot_sign_and_a_forged_signature_is_named(tmp_path: Path) -> None:
    draft = drafted(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    init(tmp_path / "elsewhere", "stranger")
    stranger = caretrace("found", "sign", "--key", "elsewhere/stranger-organisation.key", "--json", folder=tmp_path)
    wrong_kind = caretrace("found", "sign", "--key", "north/keys/node.key", "--json", folder=tmp_path)
    content = json.loads(draft.read_text())
    draft.write_text(json.dumps(content | {"signatures": {"east": "00" * 64}}, indent=1) + "\n")
    forged = caretrace("found", "sign", "--key", "north-organisation.key", "--json", folder=tmp_path)

    assert answer_of(stranger, 1)["error"]["code"] == "founding.no_founder"
    assert answer_of(wrong_kind, 1)["error"]["code"] == "keyfile.damaged"
    assert "east" in answer_of(forged, 6)["error"]["message"]


def test_a_wrong_passphrase_signs_nothing(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("right")
    for name in NAMES:
        caretrace("init", "--name", name, "--home", name, "--passphrase-file", "pass", folder=tmp_path)
    caretrace("found", *(f"{name}/card.json" for name in NAMES), folder=tmp_path)
    (tmp_path / "pass").write_text("wrong")

    arguments = ("found", "sign", "--key", "north-organisation.key", "--passphrase-file", "pass", "--json")
    done = caretrace(*arguments, folder=tmp_path)

    assert answer_of(done, 1)["error"]["code"] == "passphrase.wrong"


def test_a_finished_genesis_is_never_overwritten(tmp_path: Path) -> None:
    genesis = founded(tmp_path)
    before = genesis.read_bytes()
    caretrace("found", *(f"{name}/card.json" for name in NAMES), "--network", "other", folder=tmp_path)
    done = [
        caretrace("found", "sign", "--key", f"{name}-organisation.key", "--json", folder=tmp_path) for name in NAMES
    ]

    assert answer_of(done[-1], 1)["error"]["code"] == "genesis.exists"
    assert genesis.read_bytes() == before

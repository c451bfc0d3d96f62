import json
from pathlib import Path

import pytest

from cli.errors import CliError, Exit
from cli.place import Place

CONFIG = 'name = "{}"\nlisten = ["/ip4/127.0.0.1/tcp/4101"]\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder and home without anything of ours."""
    for variable in ("CARETRACE_NODE", "CARETRACE_HOME", "CARETRACE_WALLET", "CARETRACE_TESTNET"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_testnet(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).mkdir()
        (folder / name / "config.toml").write_text(CONFIG.format(name))
    nodes = [{"name": name, "home": name, "http": "127.0.0.1:1", "p2p": "x"} for name in names]
    content = {"schema": "caretrace.testnet/1", "network": "testnet", "wallet": "wallet", "nodes": nodes}
    (folder / "testnet.json").write_text(json.dumps(content))
    return folder


def home_of(place: Place, wallet_home: Path | None = None) -> Path:
    return place.node_home(wallet_home)[1].absolute()


def test_without_anything_said_the_users_own_folders_are_meant(here: Path) -> None:
    place = Place()

    assert home_of(place) == here / "user" / ".caretrace"
    assert place.wallet == here / "user" / ".caretrace-wallet"


def test_a_test_network_in_this_folder_is_found_with_its_wallet(here: Path) -> None:
    net = make_testnet(here / "caretrace-testnet", "north", "south")

    assert home_of(Place()) == net / "north"
    assert home_of(Place("south")) == net / "south"
    assert Place("south").wallet.absolute() == Place().wallet.absolute() == net / "wallet"


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_test_network_elsewhere_is_found_where_it_is_said_to_be(
    here: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    net = make_testnet(here / "some where", "north")
    if by == "environment":
        monkeypatch.setenv("CARETRACE_TESTNET", str(net))

    place = Place("north", folder_option=net if by == "option" else None)

    assert home_of(place) == net / "north"
    assert place.wallet == net / "wallet"


def test_what_is_said_goes_before_the_environment_and_that_before_what_the_wallet_remembers(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered = here / "remembered"

    assert home_of(Place(), remembered) == remembered
    monkeypatch.setenv("CARETRACE_HOME", "variable-home")
    assert home_of(Place(), remembered) == here / "variable-home"
    monkeypatch.setenv("CARETRACE_NODE", "./variable-node")
    assert home_of(Place(), remembered) == here / "variable-node"
    assert home_of(Place(home_option=Path("said-home")), remembered) == here / "said-home"
    assert home_of(Place("./said-node"), remembered) == here / "said-node"


def test_a_wallet_that_is_said_goes_before_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARETRACE_WALLET", "variable")

    assert Place().wallet == Path("variable")
    assert Place(wallet_option=Path("said")).wallet == Path("said")


def test_a_node_outside_the_test_network_is_no_reason_to_use_its_wallet(here: Path) -> None:
    make_testnet(here / "caretrace-testnet", "north")

    assert Place("/var/lib/caretrace").wallet == here / "user" / ".caretrace-wallet"
    assert Place(home_option=Path("/var/lib/caretrace")).wallet == here / "user" / ".caretrace-wallet"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place("north", home_option=Path("x")), "both name the node"),
        (Place("https://north.example:8443"), "Unix socket"),
        (Place("http://127.0.0.1:8101"), "Unix socket"),
        (Place("north"), "no test network"),
        (Place("north", folder_option=Path("nowhere")), "no test network in nowhere"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(here: Path, place: Place, words: str) -> None:
    with pytest.raises(CliError, match=words) as caught:
        place.node_home(None)

    assert caught.value.exit_code is Exit.USAGE


def test_an_unknown_node_is_told_from_those_that_there_are(here: Path) -> None:
    make_testnet(here / "caretrace-testnet", "north", "south")

    with pytest.raises(CliError, match="it has north, south"):
        Place("east").node_home(None)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema": "x"}', b'{"schema": "x", "nodes": []}', b"\xff"])
def test_a_damaged_list_of_nodes_is_named(here: Path, content: bytes) -> None:
    (here / "caretrace-testnet").mkdir()
    (here / "caretrace-testnet" / "testnet.json").write_bytes(content)

    with pytest.raises(CliError) as caught:
        Place("north").node_home(None)

    assert caught.value.code == "testnet.damaged"


def test_a_folder_of_this_name_is_a_home_where_there_is_no_test_network(here: Path) -> None:
    (here / "north").mkdir()
    (here / "north" / "config.toml").write_text(CONFIG.format("north"))

    assert home_of(Place("north")) == here / "north"

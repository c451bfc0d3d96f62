import tomllib
from pathlib import Path

import msgspec
import pytest

from node.config import Config, ConfigError, Home, is_multiaddr, load_config, multiaddr, parse_config, parse_host_port
from tests.support.source_tree import ROOT

EXAMPLE = ROOT / "configs" / "example-config.toml"
SHORT = b'name = "north"\nlisten = ["/ip4/127.0.0.1/tcp/4101"]\n'


def test_the_example_names_every_setting_and_states_the_defaults() -> None:
    written = tomllib.loads(EXAMPLE.read_text())

    config = parse_config(EXAMPLE.read_bytes(), {})

    assert set(written) == set(Config.__struct_fields__)
    assert config == msgspec.structs.replace(
        parse_config(SHORT, {}), listen=config.listen, advertise=("/dns4/caretrace.north.example/tcp/4101",)
    )


def test_a_short_config_is_enough(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(SHORT)

    config = load_config(Home(tmp_path), {})

    assert config.name == "north"
    assert config.http_tcp == "off"
    assert config.addresses == ("/ip4/127.0.0.1/tcp/4101",)
    assert Home(tmp_path).socket(config) == tmp_path / "run" / "node.sock"


def test_a_member_may_be_reached_elsewhere_than_the_ledger_says() -> None:
    config = parse_config(SHORT + b'[reach]\nsouth = ["/ip4/10.8.0.2/tcp/4101"]', {"CARETRACE_REACH": "east"})

    assert config.reach == {"south": ("/ip4/10.8.0.2/tcp/4101",)}


def test_the_environment_overrides_every_setting_but_the_name_and_whom_it_reaches() -> None:
    environment = {
        "CARETRACE_LOG_LEVEL": "debug",
        "CARETRACE_RECORD_BYTES_MAX": "1024",
        "CARETRACE_LISTEN": "/ip4/10.0.0.5/tcp/1,/ip6/::1/tcp/2",
        "CARETRACE_NAME": "mallory",
        "CARETRACE_HOME": "/elsewhere",
        "LOG_LEVEL": "error",
    }

    config = parse_config(SHORT, environment)

    assert config.log_level == "debug"
    assert config.record_bytes_max == 1024
    assert config.listen == ("/ip4/10.0.0.5/tcp/1", "/ip6/::1/tcp/2")
    assert config.name == "north"


@pytest.mark.parametrize(
    ("content", "code", "field", "words"),
    [
        (b"name = ", "config.damaged", None, "config.toml"),
        (b"\xff", "config.damaged", None, "config.toml"),
        (b"a = " + b"[" * 5000, "config.damaged", None, "config.toml"),
        (b"", "config.invalid", None, "name"),
        (b'name = "north"', "config.invalid", None, "listen"),
        (SHORT + b'colour = "red"', "config.invalid", None, "colour"),
        (SHORT + b'log_level = "loud"', "config.invalid", "log_level", "log_level"),
        (SHORT + b"record_bytes_max = 0", "config.invalid", "record_bytes_max", "record_bytes_max"),
        (SHORT + b'http_tcp = "everywhere"', "config.invalid", "http_tcp", "HOST:PORT"),
        (SHORT + b'advertise = ["/ip4/10.0.0.5/tcp/0"]', "config.invalid", "advertise", "/tcp/0"),
        (SHORT + b'advertise = ["/ip4/10.0.0.5/tcp/1", 7]', "config.invalid", "advertise", "advertise"),
        (SHORT + b'[reach]\nsouth = ["10.0.0.5:4101"]', "config.invalid", "reach", "10.0.0.5:4101"),
        (SHORT + b'[reach]\nsouth = ["/ip4/10.0.0.5/tcp/0"]', "config.invalid", "reach", "/tcp/0"),
        (SHORT + b'[reach]\nSouth = ["/ip4/10.0.0.5/tcp/1"]', "config.invalid", "reach", "reach"),
        (b'name = "North"\nlisten = ["/ip4/1.2.3.4/tcp/1"]', "config.invalid", "name", "name"),
        (b'name = "north"\nlisten = []', "config.invalid", "listen", "listen"),
        (b'name = "north"\nlisten = ["10.0.0.5:4101"]', "config.invalid", "listen", "10.0.0.5:4101"),
    ],
)
def test_a_config_at_fault_is_refused_and_the_setting_named(
    content: bytes, code: str, field: str | None, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(content, {})

    assert (caught.value.code, caught.value.field) == (code, field)
    assert words in str(caught.value)


def test_a_fault_in_the_environment_is_laid_at_the_environment() -> None:
    with pytest.raises(ConfigError, match="CARETRACE_LOG_LEVEL") as caught:
        parse_config(SHORT, {"CARETRACE_LOG_LEVEL": "loud"})

    assert caught.value.field == "log_level"


def test_a_missing_config_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="caretrace init") as caught:
        load_config(Home(tmp_path / "nowhere"), {})

    assert caught.value.code == "config.not_found"


def test_a_huge_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"#" * 100_000)

    with pytest.raises(ConfigError) as caught:
        load_config(Home(tmp_path), {})

    assert caught.value.code == "config.damaged"


def test_a_socket_path_that_no_system_takes_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no Unix socket") as caught:
        Home(Path("/" + "x" * 120)).socket(parse_config(SHORT, {}))

    assert caught.value.field == "socket"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("/ip4/10.0.0.5/tcp/4101", True),
        ("/ip6/::1/tcp/4101", True),
        ("/dns4/north.example/tcp/4101", True),
        ("/ip4/10.0.0.5/tcp/0", False),
        ("/ip4/10.0.0.5/tcp/65536", False),
        ("/ip4/10.0.0.5/tcp/٤", False),
        ("/ip4/::1/tcp/4101", False),
        ("/ip4/10.0.0/tcp/4101", False),
        ("/ip4/10.0.0.5/udp/4101", False),
        ("/dns4/-/tcp/4101", False),
        ("/dns4//tcp/4101", False),
        ("ip4/10.0.0.5/tcp/4101", False),
        ("/ip4/10.0.0.5/tcp/4101/p2p/12D3", False),
        ("", False),
    ],
)
def test_addresses_are_told_from_other_texts(text: str, is_one: bool) -> None:
    assert is_multiaddr(text) is is_one


@pytest.mark.parametrize("host", ["10.0.0.5", "::1", "north.example"])
def test_a_host_and_a_port_make_an_address(host: str) -> None:
    assert is_multiaddr(multiaddr(host, 4101))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8101", ("127.0.0.1", 8101)),
        ("[::1]:8101", ("::1", 8101)),
        ("north:0", ("north", 0)),
        ("::1:8101", None),
        ("127.0.0.1", None),
        (":8101", None),
        ("north:99999", None),
        ("[north]:1", None),
    ],
)
def test_a_host_with_a_port_is_read(text: str, expected: tuple[str, int] | None) -> None:
    assert parse_host_port(text) == expected

"""The home folder, config.toml and a node's keys."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chain.crypto import Keypair
from p2pml.config import Config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.identity import NodeKeys, load_or_create_seed, peer_id
from p2pml.private_config import PrivateDataset


def test_the_written_config_reads_back() -> None:
    config = Config(name='a "b"', port=1, bootstrap=("/ip4/127.0.0.1/tcp/1/p2p/x",), trainer=False)
    assert Config.parse(config.to_toml()) == config


def test_private_data_reads_back_and_is_shown_where_there_is_none() -> None:
    data = (PrivateDataset("wards", "/data/w.npz", ("pml1a", "pml1b")), PrivateDataset("b", "~/b", ()))
    config = Config(private=data)
    assert Config.parse(config.to_toml()) == config
    assert data[0].place == Path("/data/w.npz")
    example = Config().to_toml().split("\n# [[private]]\n")[1]
    shown = "[[private]]\n" + "\n".join(line.removeprefix("# ") for line in example.splitlines())
    assert Config.parse(shown).private == (PrivateDataset("wards", "/data/wards.npz", ("pml1…",)),)


def test_an_unknown_key_names_its_line_and_the_nearest_key() -> None:
    with pytest.raises(UserError, match=r"config\.toml:3: unknown key 'botstrap'") as caught:
        Config.parse('name = "a"\n\nbotstrap = []\n')
    assert "'bootstrap'" in caught.value.fix
    assert caught.value.code is ExitCode.BAD_CONFIG


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = 70000", "port is 70000"),
        ("port = true", "must be a whole number"),
        ('port = "9470"', "must be a whole number"),
        ("worker_threads = -1", "worker_threads is -1"),
        ("worker_cpu = 4", "worker_cpu is 4"),
        ("worker_cpu = 101", "worker_cpu is 101"),
        ("worker_memory_mb = -1", "worker_memory_mb is -1"),
        ("worker_memory_mb = 500", "worker_memory_mb is 500"),
        ("worker_nice = 20", "worker_nice is 20"),
        ("worker_devices = 0", "worker_devices is 0"),
        ("worker_idle_only = 1", "true or false"),
        ('worker_trainers = ["a b"]', "worker_trainers has 'a b'"),
        ('worker = "wss://192.0.2.1:9480"', "no worker_token_file"),
        ('worker = "ws://192.0.2.1:9480"\nworker_token_file = "t"', "worker is 'ws://192.0.2.1:9480'"),
        ('worker = "wss://192.0.2.1"\nworker_token_file = "t"', "worker is 'wss://192.0.2.1'"),
        ('worker = "wss://a:x"\nworker_token_file = "t"', "worker is 'wss://a:x'"),
        ('worker = "wss://[::1"\nworker_token_file = "t"', r"worker is 'wss://\[::1'"),
        ('worker = "wss://a..b:1"\nworker_token_file = "t"', "worker is 'wss://a..b:1'"),
        (f'worker = "wss://{"a" * 64}:1"\nworker_token_file = "t"', "worker is 'wss://a"),
        (
            f'worker = "ws://[::1]:1"\nworker_token_file = "t"\nworker_fingerprint = "{"ab" * 32}"',
            "shows no certificate",
        ),
        ('worker = "wss://a:1"\nworker_token_file = "t"\nworker_fingerprint = "abc"', "not a SHA-256"),
        ("rating_cap = 0", "rating_cap is 0"),
        ("rating_nice = 20", "rating_nice is 20"),
        ("rating_lanes = -1", "rating_lanes is -1"),
        ("rating_watts = -1", "rating_watts is -1"),
        ('rating = "yes"', "true or false"),
        ("data_quota_mib = -1", "data_quota_mib is -1"),
        ("bootstrap = [1]", "list of strings"),
        ('bootstrap = ["127.0.0.1:9470"]', "not a full multiaddress"),
        ('name = "' + "x" * 33 + '"', "too long"),
        ("port = ", "not valid TOML"),
        ('transport = "fsat"', "transport is 'fsat'"),
        ("[limits]\nx = 1", "unknown key 'limits'"),
        ("private = 3", r"private must be tables \[\[private\]\]"),
        ("[private]\nname = 'a'", r"private must be tables"),
        ("[[private]]\nname = 'a'", "number 1 must have the keys name, path, requesters and no others"),
        ("[[private]]\nname = 'a/b'\npath = '/d'\nrequesters = []", "name 'a/b' must be"),
        ("[[private]]\nname = 'a'\npath = 'd.npz'\nrequesters = []", "path 'd.npz' must be absolute"),
        ("[[private]]\nname = 'a'\npath = '/d'\nrequesters = 'pml1'", "must be a list of accounts"),
        (2 * "[[private]]\nname = 'a'\npath = '/d'\nrequesters = []\n", "two tables .* are called 'a'"),
    ],
)
def test_a_wrong_value_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        Config.parse(text)
    assert caught.value.code is ExitCode.BAD_CONFIG


def test_overrides_are_checked_and_none_means_unchanged() -> None:
    assert Config(port=5).override(port=None, name="n") == Config(port=5, name="n")
    with pytest.raises(UserError, match="command line"):
        Config().override(port=-1)


def test_the_home_is_private_and_of_a_known_layout(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    home.create()
    assert stat.S_IMODE(home.run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.keys.stat().st_mode) == 0o700
    home.version_file.write_text("99\n")
    with pytest.raises(UserError, match="layout version '99'"):
        home.create()


@pytest.mark.parametrize("before", [(), ("keystore/",), ("config.toml", "genesis.json")])
def test_a_folder_that_was_there_is_closed_when_it_becomes_a_home(
    tmp_path: Path, before: tuple[str, ...]
) -> None:
    home = Home(tmp_path / "h")
    home.root.mkdir(mode=0o755)
    for name in before:
        path = home.root / name
        path.mkdir() if name.endswith("/") else path.write_text("")
    home.create()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    home.root.chmod(0o750)
    home.create()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o750, "whoever opens it later means it"


def test_a_folder_of_other_things_is_not_closed(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    (home.root / "public_html").mkdir(parents=True)
    home.root.chmod(0o755)
    home.create()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o755
    assert stat.S_IMODE(home.keys.stat().st_mode) == 0o700


def test_the_home_comes_from_the_option_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PML_HOME", str(tmp_path / "env"))
    assert Home.locate(tmp_path / "opt").root == tmp_path / "opt"
    assert Home.locate().root == tmp_path / "env"
    monkeypatch.delenv("P2PML_HOME")
    assert Home.locate().root.name == "p2pml"


def test_keys_are_made_once_differ_and_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path)
    keys = NodeKeys.load_or_create(home)
    assert NodeKeys.load_or_create(home) == keys == NodeKeys.load(home)
    assert len({keys.node, keys.validator, keys.vrf}) == 3
    assert stat.S_IMODE(home.validator_key.stat().st_mode) == 0o600
    assert keys.validator.hex() not in repr(keys)


def test_loading_keys_of_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        NodeKeys.load(Home(tmp_path))
    assert "p2pml init" in caught.value.fix


@pytest.mark.parametrize("content", ["zz" * 32, "00" * 31, ""])
def test_a_damaged_key_is_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "node.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(UserError, match="damaged"):
        load_or_create_seed(path)
    assert path.read_text() == content


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    load_or_create_seed(path)
    path.chmod(0o644)
    with pytest.raises(UserError, match="read by other users") as caught:
        load_or_create_seed(path)
    assert caught.value.code is ExitCode.AUTH


@pytest.mark.slow
def test_the_peer_id_is_libp2ps() -> None:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    for number in range(5):
        seed = bytes([number]) * 32
        theirs = ID.from_pubkey(create_new_key_pair(seed).public_key).to_base58()
        assert peer_id(Keypair.from_seed(seed).public) == theirs


def test_the_two_peer_ports_differ() -> None:
    assert Config.parse("websocket_port = 9480").websocket_port == 9480
    with pytest.raises(UserError, match="both 9470"):
        Config.parse("websocket_port = 9470")
    with pytest.raises(UserError, match="websocket_port is 70000"):
        Config.parse("websocket_port = 70000")
    assert Config.parse("bittorrent_port = 6881").bittorrent_port == 6881
    with pytest.raises(UserError, match="port and bittorrent_port are both 9470"):
        Config.parse("bittorrent_port = 9470")
    with pytest.raises(UserError, match="websocket_port and bittorrent_port are both 9480"):
        Config.parse("websocket_port = 9480\nbittorrent_port = 9480")


def test_relays_are_full_addresses() -> None:
    with pytest.raises(UserError, match="full multiaddress"):
        Config.parse('relays = ["192.0.2.1:9470"]')

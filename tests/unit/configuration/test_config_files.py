# SPDX-License-Identifier: GPL-2.0-or-later
"""The files in config/: they pass, and say what the settings structs say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from lonc_gevent.configuration import files, settings, tables

CONFIG = Path(__file__).resolve().parents[3] / "config"
NO_DEFAULT = {("network", "host_id"), ("network", "hosts_tab")}


OF_NETWORK = {"security", "negotiation", "init_version"}
"""The keys of `[network]` that a host can have for itself."""


def test_the_commented_file_passes() -> None:
    """config/lonc.toml is a good configuration as it stands."""
    loaded = files.load(CONFIG / "lonc.toml")
    assert [host.id for host in loaded.hosts] == ["msul1", "msul2", "nscll1"]


def test_the_commented_file_has_every_key_with_its_default() -> None:
    """The structs and config/lonc.toml have the same keys, with the same defaults."""
    document = tomllib.loads((CONFIG / "lonc.toml").read_text())
    known = {
        (table, key): known.default
        for table, struct in tables.known_tables().items()
        for key, known in tables.keys_of(struct).items()
    }
    given = {
        (table, key): tuple(value) if isinstance(value, list) else value
        for table, keys in document.items()
        for key, value in keys.items()
    }
    assert list(given) == list(known), "same keys, in the same order"
    for name in NO_DEFAULT:
        assert given.pop(name)
        assert known.pop(name) == ""
    assert given == known
    assert {name: type(value) for name, value in given.items()} == {
        name: type(value) for name, value in known.items()
    }, "5.0 is written as 5.0"


def test_overrides_are_the_keys_of_their_tables() -> None:
    """A host can have any pool key but those over all hosts, of the same type, none by default."""
    own = tables.keys_of(settings.HostOverrides)
    general = tables.keys_of(settings.Pool) | tables.keys_of(settings.Network)
    shared = {*settings.Pool.__struct_fields__, *OF_NETWORK} - {
        "max_queued_bytes",
        "max_bytes_in_flight",
    }
    assert set(own) == shared | {"address", "port", "client_id"}
    assert all(own[name].type == general[name].type for name in shared)
    assert all(key.default is None for key in own.values())


def test_the_example_of_a_host_passes(tmp_path: Path) -> None:
    """The commented table at the end of config/lonc.toml is right when it is uncommented."""
    text = (CONFIG / "lonc.toml").read_text()
    head, found, tail = text.partition("# [hosts.msul2]\n")
    assert found
    (tmp_path / "lonc.toml").write_text(head + found[2:] + re.sub("(?m)^# ", "", tail))
    (tmp_path / "hosts.tab").write_bytes((CONFIG / "hosts.tab").read_bytes())
    own = files.load(tmp_path / "lonc.toml").settings.hosts["msul2"]
    assert own == settings.HostOverrides(
        address="127.0.0.1", port=15663, client_id="msul1", reply_timeout=30.0
    )


def test_defaults_keep_their_own_constraints() -> None:
    """A default that its key would not take could not be written down."""
    for table, struct in tables.known_tables().items():
        for name, key in tables.keys_of(struct).items():
            if (table, name) not in NO_DEFAULT:
                assert msgspec.convert(msgspec.to_builtins(key.default), key.type) == key.default
            assert key.expected


def test_every_key_is_explained_in_its_struct() -> None:
    """Each docstring has a line for each key."""
    structs: list[type[msgspec.Struct]] = [*tables.known_tables().values(), settings.HostOverrides]
    for struct in structs:
        for name in set(struct.__struct_fields__) - set(settings.Pool.__struct_fields__):
            if struct is settings.HostOverrides and name in OF_NETWORK:
                continue
            assert is_explained(name, struct), (struct, name)
    for name in settings.Pool.__struct_fields__:
        assert is_explained(name, settings.Pool), name


def is_explained(key: str, struct: type[msgspec.Struct]) -> bool:
    """Return whether a docstring has a line for a key; Python 3.13 removes its indentation."""
    return re.search(rf"^ *{key} ", struct.__doc__ or "", re.MULTILINE) is not None


def test_the_loncapa_conf_is_of_use(tmp_path: Path) -> None:
    """config/loncapa.conf fills what a short TOML file leaves out."""
    (tmp_path / "loncapa.conf").write_bytes((CONFIG / "loncapa.conf").read_bytes())
    (tmp_path / "hosts.tab").write_bytes((CONFIG / "hosts.tab").read_bytes())
    path = tmp_path / "lonc.toml"
    path.write_text('[network]\nhosts_tab = "hosts.tab"\nloncapa_conf = "loncapa.conf"\n')
    loaded = files.load(path).settings
    assert loaded.network.host_id == "msul1"
    assert loaded.sockets.directory == "/home/httpd/sockets"
    assert loaded.daemon.pid_file == "/home/httpd/perl/logs/lonc.pid"

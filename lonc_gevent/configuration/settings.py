# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings as structs: one for each table of the TOML file, and those that the daemon uses.

Names and defaults are those of contract.md, "Configuration". Times are seconds, sizes are bytes.
The type of each key has its limits, and a description of them for messages. Checks of several keys
together are in cross_checks.py. `config/lonc.toml` describes the keys for administrators, and a
test compares the two.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .names import HOST_ID, HOST_ID_EXPECTED

LOCK_NAME = ".lonc.lock"
"""The file in `sockets.directory` that a daemon locks while it runs."""

_PATH = r"\A[^\x00-\x1f\x7f\ud800-\udfff]"
_IS_PATH = {"path": True}

Seconds = Annotated[float, Meta(gt=0, le=1e9, description="a number of seconds above 0")]
KernelSeconds = Annotated[
    float, Meta(ge=0.001, le=2e6, description="a number of seconds, 0.001 to 2000000")
]
SecondsOrZero = Annotated[float, Meta(ge=0, le=1e9, description="a number of seconds, 0 or more")]
Bytes = Annotated[int, Meta(ge=64, le=2**40, description="a whole number of bytes, 64 to 2**40")]
BytesOrZero = Annotated[
    int, Meta(ge=0, le=2**40, description="a whole number of bytes, 0 to 2**40")
]
Connections = Annotated[int, Meta(ge=1, le=10_000, description="a whole number, 1 to 10000")]
Count = Annotated[int, Meta(ge=1, le=10**9, description="a whole number, 1 to 10**9")]
CountOrZero = Annotated[int, Meta(ge=0, le=10**9, description="a whole number, 0 to 10**9")]
Port = Annotated[int, Meta(ge=1, le=65535, description="a port number, 1 to 65535")]
Mode = Annotated[
    str, Meta(pattern=r"\A0?[0-7]{3}\Z", description='octal digits as text, such as "0660"')
]
Path = Annotated[
    str,
    Meta(pattern=_PATH + r"+\Z", description="a path without control characters", extra=_IS_PATH),
]
PathOrEmpty = Annotated[
    str,
    Meta(
        pattern=_PATH + r"*\Z",
        description='a path without control characters, or ""',
        extra=_IS_PATH,
    ),
]
Id = Annotated[str, Meta(pattern=r"\A" + HOST_ID, description=f"a host id: {HOST_ID_EXPECTED}")]
IdOrEmpty = Annotated[
    str,
    Meta(pattern=rf"\A(?:\Z|{HOST_ID})", description=f'a host id ({HOST_ID_EXPECTED}), or ""'),
]
Ids = Annotated[
    tuple[Id, ...], Meta(description=f"an array of host ids, each of {HOST_ID_EXPECTED}")
]
Group = Annotated[
    str, Meta(pattern=r"\A[^\x00-\x20\x7f:,/]*\Z", description='the name of a group, or ""')
]
Accounts = Annotated[
    tuple[
        Annotated[int, Meta(ge=0, le=2**32 - 2)]
        | Annotated[str, Meta(pattern=r"\A[^\x00-\x20\x7f:,/]+\Z")],
        ...,
    ],
    Meta(description="an array of names and numeric ids"),
]
Text = Annotated[str, Meta(max_length=300, description="text of at most 300 characters")]
Security = Literal["insecure", "ssl", "ssl-or-insecure", "local"]
Negotiation = Literal["auto", "legacy", "modern"]
TlsVersion = Literal["1.0", "1.2", "1.3"]
Switch = Annotated[bool, Meta(description="true or false")]
InitVersion = Annotated[
    str,
    Meta(pattern=r"\A[!-9;-~]{0,60}\Z", description='a version without blanks and colons, or ""'),
]
SocketName = Literal["id", "dns", "both"]
Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["json", "console", "auto"]
Schema = Literal["plain", "ecs"]


class Network(Struct, frozen=True, kw_only=True):
    """`[network]`: our own id, the hosts, and the protocol to their londs.

    host_id         our own id in hosts.tab (PerlSetVar lonHostID); has no default
    hosts_tab       the file of hosts (lonTabDir/hosts.tab); has no default
    dns_hosts_tab   whether dns_hosts.tab beside hosts.tab, if it is there, overrides its entries
    loncapa_conf    LON-CAPA's loncapa.conf, or its directory: its PerlSetVar lines, and those of
                    loncapa_apache.conf beside it, fill what the TOML file leaves out; "": none
    hosts           the ids to serve; empty: every host of hosts.tab
    lond_port       TCP port of each lond that has no `port` of its own (londPort)
    security        exchange of the session key (protocol.md, section 3)
    negotiation     dialogue with a lond (protocol.md, sections 3a and 3b)
    init_version    a version to send in the first line to lond; "" for none
    certificate     PEM file of our certificate, for ssl
    private_key     PEM file of its key
    ca_certificate  PEM file of the CA that signs the londs' certificates
    crl             PEM file of certificates that this CA has revoked; "": none is checked
    check_certificate_name  whether lond's certificate must be for its host's dns name
    tls_minimum     least version of TLS
    tls_close_notify  whether TLS ends with a close_notify from either side (protocol.md, 3d)
    resolve_interval  seconds for which the addresses of a DNS name are used without a new look-up
    watch_files     whether a change of hosts_tab or loncapa_conf is loaded without a command
    key_directory   where the key files of security local are made; left out: sockets.directory
    """

    host_id: Id = ""
    hosts_tab: Path = ""
    dns_hosts_tab: Switch = True
    loncapa_conf: PathOrEmpty = ""
    hosts: Ids = ()
    lond_port: Port = 5663
    security: Security = "insecure"
    negotiation: Negotiation = "auto"
    init_version: InitVersion = ""
    certificate: PathOrEmpty = ""
    private_key: PathOrEmpty = ""
    ca_certificate: PathOrEmpty = ""
    crl: PathOrEmpty = ""
    check_certificate_name: Switch = True
    tls_minimum: TlsVersion = "1.2"
    tls_close_notify: Switch = False
    key_directory: Path = "sockets"
    resolve_interval: Seconds = 60.0
    watch_files: Switch = True


class Sockets(Struct, frozen=True, kw_only=True):
    """`[sockets]`: the Unix sockets that web processes connect to.

    directory   where they are (lonSockDir)
    name        "id": one named by each host id; "dns": by each dns name; "both". Where several
                ids share a dns name, its socket belongs to the first of them in hosts.tab
    common_parent  the socket on which lonnet asks for the socket of a host that is new to it
                (lonSockCreate); "": none
    mode        permission bits of each socket, octal digits as text
    group       the group that owns the sockets; "": the daemon's own
    allow_uids  users that may connect, besides the daemon's own and root; empty: all that the
                mode admits
    allow_gids  groups whose processes may connect besides; empty: none beyond allow_uids
    max_clients          clients connected at a time; 0: as many as leave descriptors for the rest
    max_clients_per_uid  of one user id; 0: as many as of all together
    """

    directory: Path = "sockets"
    name: SocketName = "id"
    common_parent: PathOrEmpty = ""
    mode: Mode = "0660"
    group: Group = ""
    allow_uids: Accounts = ()
    allow_gids: Accounts = ()
    max_clients: CountOrZero = 0
    max_clients_per_uid: CountOrZero = 0


class Pool(Struct, frozen=True, kw_only=True):
    """`[pool]`: the lond connections of a host and the requests that wait for one.

    max_connections    lond connections per host
    max_queued         requests waiting per host
    max_queued_bytes   bytes of waiting requests, over all hosts together
    max_bytes_in_flight  bytes of long requests and replies, over all hosts together, beyond which
                       no more is read; 0: half of the memory that the process may have
    max_request_bytes  longest request line
    max_reply_bytes    longest reply line
    connect_timeout    seconds for the TCP connection
    handshake_timeout  seconds for the whole handshake
    reply_timeout      seconds from a request's first byte to its whole reply
    unacknowledged_timeout  seconds after which a lond that acknowledges no byte has vanished
    queue_timeout      seconds after which a request that no connection took gets con_lost
    idle_timeout       seconds after which an unused connection is closed
    retry_backoff_min  seconds, the first delay between attempts to reach a host
    retry_backoff_max  seconds, the longest such delay
    """

    max_connections: Connections = 5
    max_queued: Count = 10_000
    max_queued_bytes: Bytes = 268_435_456
    max_bytes_in_flight: BytesOrZero = 0
    max_request_bytes: Bytes = 16_777_216
    max_reply_bytes: Bytes = 67_108_864
    connect_timeout: Seconds = 5.0
    handshake_timeout: Seconds = 10.0
    reply_timeout: Seconds = 300.0
    unacknowledged_timeout: KernelSeconds = 20.0
    queue_timeout: Seconds = 60.0
    idle_timeout: Seconds = 3600.0
    retry_backoff_min: Seconds = 0.5
    retry_backoff_max: Seconds = 60.0


class Delayed(Struct, frozen=True, kw_only=True):
    """`[delayed]`: requests that wait in files until their host is up.

    directory      where they are; left out: `delayed` below sockets.directory
    settle         seconds; a younger file is not read
    scan_interval  seconds between two scans of the directory
    max_attempts   attempts that may fail before a file goes to quarantine: the connection was
                   lost, or the answer says that the request did not run
    orphan_after   seconds that files wait for a host that is not in hosts.tab, before quarantine
    perm_log       file for the S lines of completed ones (lonnet.perm.log); "": none
    key_file       key that seals `encrypt:` requests at rest; "": they are not sealed
    """

    directory: Path = "sockets/delayed"
    settle: SecondsOrZero = 5.0
    scan_interval: Seconds = 10.0
    max_attempts: Count = 5
    orphan_after: SecondsOrZero = 86400.0
    perm_log: PathOrEmpty = ""
    key_file: PathOrEmpty = ""


class Admin(Struct, frozen=True, kw_only=True):
    """`[admin]`: status and metrics, and how long a stop may take.

    socket        Unix socket with the HTTP API; left out: `lonc-admin` below sockets.directory
    group         the group whose members may use the socket, too; "": only the daemon's user
    listen        loopback `address:port` for the same API over TCP, read-only; "" for none
    stop_timeout  seconds that a stop or a restart waits for transactions in progress
    """

    socket: Path = "sockets/lonc-admin"
    group: Group = ""
    listen: Text = ""
    stop_timeout: SecondsOrZero = 5.0


class Daemon(Struct, frozen=True, kw_only=True):
    """`[daemon]`: files for other programs.

    pid_file     file with the pid (read by reconlonc); "" for none
    report_file  file for the text report of USR1; "" for none
    core_dumps   whether the kernel may write a core file, which contains keys and requests
    """

    pid_file: PathOrEmpty = ""
    report_file: PathOrEmpty = ""
    core_dumps: Switch = False


class Log(Struct, frozen=True, kw_only=True):
    """`[log]`: the log on stdout.

    level   least level of events
    format  "json", "console" for reading in a terminal, "auto": "console" if stdout is one
    schema  names of the fields in JSON: "plain", or "ecs" for the Elastic Common Schema
    sample  log every Nth completed transaction at info; 0: none
    """

    level: Level = "info"
    format: Format = "json"
    schema: Schema = "plain"
    sample: CountOrZero = 0


class HostOverrides(Struct, frozen=True, kw_only=True):
    """`[hosts.ID]`: values of one host in place of the general ones, or None.

    address    IP address or name to connect to in place of the dns name of hosts.tab
    port       TCP port of this lond
    client_id  our id at this lond, if it is not network.host_id
    others     as in `[network]` and `[pool]`; max_queued_bytes and max_bytes_in_flight are over
               all hosts, so not in here
    """

    address: Text | None = None
    port: Port | None = None
    client_id: IdOrEmpty | None = None
    security: Security | None = None
    negotiation: Negotiation | None = None
    init_version: InitVersion | None = None
    max_connections: Connections | None = None
    max_queued: Count | None = None
    max_request_bytes: Bytes | None = None
    max_reply_bytes: Bytes | None = None
    connect_timeout: Seconds | None = None
    handshake_timeout: Seconds | None = None
    reply_timeout: Seconds | None = None
    unacknowledged_timeout: KernelSeconds | None = None
    queue_timeout: Seconds | None = None
    idle_timeout: Seconds | None = None
    retry_backoff_min: Seconds | None = None
    retry_backoff_max: Seconds | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """The whole TOML file with all defaults; `hosts` is keyed by host id."""

    network: Network = Network()
    sockets: Sockets = Sockets()
    pool: Pool = Pool()
    delayed: Delayed = Delayed()
    admin: Admin = Admin()
    daemon: Daemon = Daemon()
    log: Log = Log()
    hosts: dict[str, HostOverrides] = {}


class HostSettings(Struct, frozen=True, kw_only=True):
    """One served host with its settings.

    address    address to connect to; "" to resolve dns_name
    client_id  our id in the session key, never ""
    server_id  the host's id in it
    pool       `[pool]` with the host's own values in it
    """

    id: str
    domain: str
    role: str
    dns_name: str
    address: str
    port: int
    security: Security
    negotiation: Negotiation
    init_version: str = ""
    resolve_interval: float = 60.0
    client_id: str
    server_id: str
    pool: Pool


class Configuration(Struct, frozen=True, kw_only=True):
    """The configuration of the daemon: settings with absolute paths, and the hosts to serve.

    hosts    in the order of hosts.tab
    sockets  file name below sockets.directory -> id of the host that it belongs to
    known    all ids of hosts.tab, also of hosts that are not served here
    """

    settings: Settings
    hosts: tuple[HostSettings, ...]
    sockets: dict[str, str]
    known: frozenset[str] = frozenset()

"""Servers that speak something else: pathfit knows no more of them than that TCP acknowledges what it is sent."""

import shutil
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock

from realservers import Server, as_nobody, certificate, owned, program

_ONCE = Lock()  # tests run side by side


@cache
def _made(name: str) -> Path:
    """An empty database, made once: it takes as long as everything else. :func:`forget` removes it."""
    folder = Path(mkdtemp(prefix=f"pathfit-{name}-"))
    _folders.append(folder)
    owned(folder)
    data = folder / "data"
    if name == "postgresql":
        as_nobody([program("initdb"), "-D", str(data), "-A", "trust", "-U", "test", "--no-sync", "-E", "UTF8"], folder)
    else:  # as mariadb-install-db does it, which wants another package's program
        orders = b"create database mysql;\nuse mysql;\nset @auth_root_socket=null, @skip_auth_anonymous=1;\n"
        for part in ("system_tables", "performance_tables", "system_tables_data"):
            orders += Path(f"/usr/share/mysql/mysql_{part}.sql").read_bytes()
        data.mkdir()
        owned(folder)
        words = [program("mariadbd"), "--no-defaults", "--bootstrap", f"--datadir={data}", *MARIADB_SMALL]
        as_nobody(words, folder, orders)
    return data


_folders: list[Path] = []


def forget() -> None:
    """Removes what was made once."""
    while _folders:
        shutil.rmtree(_folders.pop())
    _made.cache_clear()


def _copy(name: str, folder: Path) -> Path:
    with _ONCE:
        made = _made(name)
    shutil.copytree(made, folder / "data")
    return folder / "data"


def _postgresql(folder: Path) -> list[str]:
    data = _copy("postgresql", folder)
    data.chmod(0o700)
    pem, key, _ = certificate(folder, "chain")
    settings = {
        "listen_addresses": "*",
        "port": POSTGRESQL,
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": pem,
        "ssl_key_file": key,
    }
    return [program("postgres"), "-D", str(data), *(x for k, v in settings.items() for x in ("-c", f"{k}={v}"))]


def _mariadb(folder: Path, known: bool = True) -> list[str]:
    """``known``: somebody may log in from elsewhere. Otherwise a stranger is told so instead of greeted."""
    data = _copy("mariadb", folder)
    first = folder / "first.sql"
    first.write_text("create user test@'%';\n" if known else "")
    pem, key, _ = certificate(folder, "chain")
    settings = {
        "datadir": data,
        "socket": folder / "socket",
        "pid-file": folder / "pid",
        "port": MARIADB,
        "bind-address": "*",
        "init-file": first,
        "ssl-cert": pem,
        "ssl-key": key,
    }
    words = [f"--{k}={v}" for k, v in settings.items()]
    return [program("mariadbd"), "--no-defaults", "--skip-name-resolve", *words, *MARIADB_SMALL]


def _dnsmasq(folder: Path) -> list[str]:
    """Answers from its own configuration alone: one small address, texts of 2400 bytes."""
    conf = folder / "dnsmasq.conf"
    text = ",".join(["x" * 200] * 4)  # a line of its configuration has 1024 bytes at most
    texts = f"txt-record=large.test,{text}\n" * 3
    conf.write_text(f"port={DNSMASQ}\nno-resolv\nno-hosts\nno-poll\naddress=/small.test/198.18.0.1\n{texts}")
    return [program("dnsmasq"), "-k", f"--conf-file={conf}", f"--pid-file={folder}/pid", "--log-facility=-"]


MARIADB_SMALL = ("--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0")
POSTGRESQL, MARIADB, DNSMASQ = 5432, 3306, 5300
SERVERS = (
    Server("postgresql", ("postgres", "initdb"), {"tcp": POSTGRESQL}, _postgresql),
    Server("mariadb", ("mariadbd",), {"tcp": MARIADB}, _mariadb),
    Server("mariadb-stranger", ("mariadbd",), {"tcp": MARIADB}, partial(_mariadb, known=False)),
    Server("dnsmasq", ("dnsmasq",), {"tcp": DNSMASQ}, _dnsmasq),
)

"""Which prelude a protocol has, and which protocol a greeting is of. Pure."""

from __future__ import annotations

from pathfit.probe.speech.binary import Dns, Ldap, Mysql, Postgresql, is_mysql
from pathfit.probe.speech.prelude import Prelude
from pathfit.probe.speech.text import Ftp, Imap, Pop3, Smtp, Xmpp

EVERY: tuple[type[Prelude], ...] = (Smtp, Ftp, Imap, Pop3, Xmpp, Postgresql, Mysql, Ldap, Dns)


def of(protocol: str, host: str = "") -> Prelude | None:
    """The prelude of a protocol that has one."""
    return next((kind(host) for kind in EVERY if kind.name == protocol), None)


def greeted(banner: bytes) -> str:
    """The protocol of a server that spoke first, by what it said; "tcp" when that is none of ours.

    "220" may be either of two: who calls itself FTP is asked as that, everybody else as a mail server.
    """
    if banner[:4] in (b"220 ", b"220-"):
        return "ftp" if b"ftp" in banner.lower() and b"smtp" not in banner.lower() else "smtp"
    if banner[:4].upper() == b"* OK":
        return "imap"
    if banner[:3] == b"+OK":
        return "pop3"
    return "mysql" if is_mysql(banner) else "tcp"

"""The grammar of WHERE and TARGET: what is meant, and what is refused with a line to type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.cli import target as grammar
from pathfit.cli.stop import Stop
from pathfit.core.ask import Target

TARGETS = [
    # text, protocol, host, port, path
    ("https://example.org", "https", "example.org", 443, "/"),
    ("https://example.org/", "https", "example.org", 443, "/"),
    ("HTTPS://EXAMPLE.org:8443/a?b=c#frag", "https", "example.org", 8443, "/a?b=c"),
    ("http://example.org?x=1", "http", "example.org", 80, "/?x=1"),
    ("http://198.51.100.2/%7Euser/a b".replace(" ", "%20"), "http", "198.51.100.2", 80, "/%7Euser/a%20b"),
    ("https://[2001:DB8::0:1]:8443/x", "https", "2001:db8::1", 8443, "/x"),
    ("https://[2001:db8::1]", "https", "2001:db8::1", 443, "/"),
    ("https://example.org/größe", "https", "example.org", 443, "/gr%C3%B6%C3%9Fe"),
    ("https://bücher.example/", "https", "xn--bcher-kva.example", 443, "/"),
    ("https://例子.测试/", "https", "xn--fsqu00a.xn--0zwm56d", 443, "/"),
    ("tcp://db:5432", "tcp", "db", 5432, "/"),
    ("tcp://[::1]:22/", "tcp", "::1", 22, "/"),
    ("udp://192.0.2.53:53", "udp", "192.0.2.53", 53, "/"),
    ("udp://192.0.2.53:53/Big.example.org", "udp", "192.0.2.53", 53, "/Big.example.org"),
    ("udp://[2001:db8::53]:53/_x.example.org./txt", "udp", "2001:db8::53", 53, "/_x.example.org./TXT"),
    ("example.org:443", "any", "example.org", 443, "/"),
    ("my_service:80", "any", "my_service", 80, "/"),
    ("[2001:db8::1]:443", "any", "2001:db8::1", 443, "/"),
    ("[2001:db8::1]", "icmp", "2001:db8::1", 0, "/"),
    ("2001:db8::1", "icmp", "2001:db8::1", 0, "/"),
    ("example.org", "icmp", "example.org", 0, "/"),
    ("example.org.", "icmp", "example.org", 0, "/"),
    ("::ffff:192.0.2.1", "icmp", "192.0.2.1", 0, "/"),
    ("192.0.2.1:65535", "any", "192.0.2.1", 65535, "/"),
]


@pytest.mark.parametrize(("text", "protocol", "host", "port", "path"), TARGETS)
def test_target(text: str, protocol: str, host: str, port: int, path: str) -> None:
    found = grammar.target(text)
    assert (found.protocol, found.host, found.port, found.path) == (protocol, host, port, path)
    assert found.where is None


@pytest.mark.parametrize(
    ("text", "where", "port"),
    [
        ("container:web", "container:web", 0),
        ("container:web:8080", "container:web", 8080),
        ("container:dind/web:8080", "container:dind/web", 8080),
        ("netns:/run/netns/x:8443", "netns:/run/netns/x", 8443),
        ("netns:s", "netns:s", 0),
        ("pid:12", "pid:12", 0),
        ("pid:12:80", "pid:12", 80),
        ("pod:default/web-7f:80", "pod:default/web-7f", 80),
        ("host", "host", 0),
        ("host:8080", "host", 8080),
        ("node2!container:web:80", "node2!container:web", 80),
        ("docker:web", "docker:web", 0),
        ("docker:web:80", "docker:web", 80),
    ],
)
def test_target_that_is_a_place(text: str, where: str, port: int) -> None:
    found = grammar.target(text)
    assert (found.where, found.port, found.host) == (where, port, "")


@pytest.mark.parametrize(
    ("text", "kept"),
    [("https://bob:secret@example.org/x", "https://example.org/x"), ("tcp://u@db:5432", "tcp://db:5432")],
)
def test_credentials_are_taken_out(text: str, kept: str) -> None:
    assert grammar.target(text) == Target(
        text=kept,
        protocol=grammar.target(kept).protocol,
        host=grammar.target(kept).host,
        port=grammar.target(kept).port,
        path=grammar.target(kept).path,
    )


REFUSED = [
    # text, a word of the message, the line to type
    ("", "one word", "--to https://example.org/"),
    ("exa mple.org", "one word", "--to https://example.org/"),
    ("https://a\n", "one word", "--to https://example.org/"),
    ("ftp://example.org/x", "no protocol", "--to tcp://example.org:PORT"),
    ("https:///x", "host is missing", "--to https://example.org/"),
    ("https://example.org:0/", "out of range", "--to example.org:443"),
    ("example.org:65536", "out of range", "--to example.org:443"),
    ("example.org:http", "out of range", "--to example.org:443"),
    ("example.org:-1", "out of range", "--to example.org:443"),
    ("example.org:٣", "out of range", "--to example.org:443"),
    ("example.org:", "out of range", "--to example.org:443"),
    (":443", "host is missing", "--to example.org:443"),
    ("256.1.1.1:80", "no IP address", "--to 192.0.2.1:443"),
    ("1.2.3", "no IP address", "--to 192.0.2.1:443"),
    ("2001:db8::1:443:x", "brackets", "--to [2001:db8::1]:443"),
    ("[2001:db8::1", "not closed", "--to [2001:db8::1]:443"),
    ("[example.org]:443", "brackets are for IPv6", "--to example.org:443"),
    ("fe80::1%eth0", "link-local", "--to [2001:db8::1]:443"),
    ("0.0.0.0:80", "not the address of one host", "--to 192.0.2.1:443"),
    ("[ff02::1]:80", "not the address of one host", "--to 192.0.2.1:443"),
    ("example.org/x", "needs a scheme", "--to https://example.org/x"),
    ("-x.org:80", "cannot be a host name", "--to https://example.org/"),
    ("a..b:80", "cannot be a host name", "--to https://example.org/"),
    (f"{'a' * 64}.org:80", "cannot be a host name", "--to https://example.org/"),
    ("straße.example:80", "two standards", "--to xn--...:443"),
    ("tcp://db", "needs a port", "--to tcp://db:443"),
    ("udp://dns", "needs a port", "--to udp://dns:53"),
    ("tcp://db:1/path", "no path", "--to tcp://db:1"),
    ("udp://dns:53/a..b", "cannot be a name to ask for", "--to udp://192.0.2.53:53/example.org/TXT"),
    ("udp://dns:53/example.org/NOPE", "no type of record", "--to udp://192.0.2.53:53/example.org/TXT"),
    ("docker:2375", "could be the host docker", "--to tcp://docker:2375   or   --to container:2375"),
    ("container:", "name is missing", "--to container:NAME"),
]


@pytest.mark.parametrize(("text", "says", "how"), REFUSED)
def test_target_refused(text: str, says: str, how: str) -> None:
    with pytest.raises(Stop) as stop:
        grammar.target(text)
    assert says in stop.value.message
    assert stop.value.how == how
    assert stop.value.status == 2


@pytest.mark.parametrize(
    "text",
    [
        "host",
        "netns:a-b_1.x",
        "netns:/proc/1/ns/net",
        "pid:1",
        "container:0123abcd",
        "pod:kube-system/dns",
        "pod:web",
        "n2!host",
        "container:dind/web",
        "docker:dind/deeper/web",
        "n2!container:dind/web",
    ],
)
def test_where(text: str) -> None:
    assert grammar.where(text) == text


@pytest.mark.parametrize(
    ("text", "says", "how"),
    [
        ("jenkins", "no place", "--from container:jenkins   or   --from netns:jenkins"),
        ("", "no place", "--from container:NAME   or   --from netns:NAME"),
        ("vm:web", "cannot begin with 'vm:'", "--from container:web"),
        ("pid:0", "process number", "--from pid:1234"),
        ("pid:x", "process number", "--from pid:1234"),
        ("pid:99999999999", "process number", "--from pid:1234"),
        ("pod:web/", "NAMESPACE/NAME", "--from pod:default/web"),
        ("netns:", "name is missing", "--from netns:NAME"),
        ("netns:../x", "cannot be the name", "ip netns list"),
        ("container:a b", "cannot be a name", "--from container:NAME"),
        ("container:../x", "cannot be a name", "--from container:NAME"),
        ("container:dind/", "cannot be a name", "--from container:NAME"),
        ("container:dind//web", "cannot be a name", "--from container:NAME"),
        (f"container:{'/'.join('x' * 17)}", "cannot be a name", "--from container:NAME"),
        ("network:dind/web", "cannot be a name", "--from network:NAME"),
        ("!host", "no host name", "--from HOST!host"),
    ],
)
def test_where_refused(text: str, says: str, how: str) -> None:
    with pytest.raises(Stop) as stop:
        grammar.where(text)
    assert says in stop.value.message
    assert stop.value.how.startswith(how)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a.example:192.0.2.1", ("a.example", "192.0.2.1")),
        ("A:[2001:db8::1]", ("a", "2001:db8::1")),
        ("a:::1", ("a", "::1")),
    ],
)
def test_resolve(text: str, pair: tuple[str, str]) -> None:
    assert grammar.resolve(text) == pair


@pytest.mark.parametrize("text", ["", "a", "a:", ":192.0.2.1", "a:443:192.0.2.1", "a:b"])
def test_resolve_refused(text: str) -> None:
    with pytest.raises(Stop, match="name and an address"):
        grammar.resolve(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("none", "none"),
        ("http://p:3128", "http://p:3128"),
        ("p:3128", "http://p:3128"),
        ("http://u:s@p:3128/", "http://p:3128"),
        ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
    ],
)
def test_proxy(text: str, url: str) -> None:
    assert grammar.proxy(text) == url


@pytest.mark.parametrize("text", ["", "socks5://p:1080", "https://p:3128", "http://p", "http://", "p:0"])
def test_proxy_refused(text: str) -> None:
    with pytest.raises(Stop) as stop:
        grammar.proxy(text)
    assert stop.value.how.startswith("--proxy ")


@given(st.text(max_size=80))
def test_any_text_is_a_target_or_is_refused(text: str) -> None:
    try:
        found = grammar.target(text)
    except Stop as e:
        assert "\x1b" not in e.message
        assert e.how
    else:
        assert found.where or found.host
        assert found.port in range(65536)


@given(st.text(alphabet="https:/[]@.!#?%x1ßé٣-_ \x1b", max_size=40))
def test_texts_of_its_own_letters(text: str) -> None:
    for parse in (grammar.target, grammar.where, grammar.resolve, grammar.proxy):
        try:
            parse(text)
        except Stop as e:
            assert "\x1b" not in e.message

"""The network between the engine and a service: proxies, certificates, and whether a request counts as sent."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random

import pytest

from certificates import NAME, Authority, authority
from project import NOBODY, Project
from proxies import DRIP_S, Proxy, SocksProxy, dripping, running
from raw_server import Pauses, Request, always, answer, raw_server
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.http.network import Network, network_for, proxy_for
from reconciler.engines.http.targets import Access
from reconciler.engines.port import AnswerClass, Reason, Result
from reconciler.model.errors import EngineError
from reconciler.model.jobs import Verb
from runner import CI
from steps import step_for

TOKEN = "canary-token"
USER, PASSWORD = "proxyUser", "proxy/Pass+1"
USERINFO = "proxyUser:proxy%2FPass+1"
OK = answer(200, '{"ok": true, "requestId": "r-1"}')
RUN = step_for(Verb.RUN, "j", {"taskTimeout": 60})
INSECURE = Access(insecure=True)
SOON_S = 5.0
"""A time far above every deadline of these tests, and far below the time of a request without a deadline."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def server_tls(ours: Authority) -> ssl.SSLContext:
    return ours.server()


@contextmanager
def engine_at(
    endpoint: str,
    env: Mapping[str, str] = {},
    access: Access = INSECURE,
    *,
    network: Network | None = None,
    timeout_s: float = 10.0,
    connect_timeout_s: float = 5.0,
    parallelism: int = 4,
) -> Iterator[ByteniteEngine]:
    engine = ByteniteEngine(
        endpoint,
        Credentials(TOKEN),
        parallelism=parallelism,
        max_rps=None,
        wait=Pauses(stop=True),
        random=Random(1),
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
        network=network or network_for(endpoint, access, env),
        insecure=access.insecure,
    )
    try:
        yield engine
    finally:
        engine.close()


def trusting(ours: Authority, **env: str) -> dict[str, str]:
    return {"REQUESTS_CA_BUNDLE": str(ours.file), **env}


# Which proxy


@pytest.mark.parametrize(
    ("url", "env", "variable"),
    [
        ("https://a.example", {}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1"}, "HTTPS_PROXY"),
        ("https://a.example", {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "https_proxy"),
        ("https://a.example", {"https_proxy": "", "HTTPS_PROXY": "http://q:1"}, "HTTPS_PROXY"),
        ("https://a.example", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://a.example", {"ALL_PROXY": "http://p:1"}, "ALL_PROXY"),
        ("https://a.example", {"all_proxy": "p:1", "HTTPS_PROXY": "http://q:1"}, "HTTPS_PROXY"),
        ("http://a.example", {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "HTTP_PROXY"),
        ("http://a.example", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
        ("http://a.example", {"http_proxy": "http://p:1", "REQUEST_METHOD": "GET"}, "http_proxy"),
        *(
            ("https://a.example:8443/v1", {"HTTPS_PROXY": "http://p:1", name: value}, found)
            for name in ("NO_PROXY", "no_proxy")
            for value, found in [
                ("a.example", None),
                (".example", None),
                ("other.example, a.example", None),
                ("a.example:8443", None),
                ("a.example:9", "HTTPS_PROXY"),
                ("*", None),
                ("b.example", "HTTPS_PROXY"),
                ("", "HTTPS_PROXY"),
            ]
        ),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, None),
        *(
            (f"{scheme}://{host}:8080/v1", {"ALL_PROXY": "http://p:1"}, None)
            for scheme in ("http", "https")
            for host in ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]")
        ),
        ("https://localhost.example", {"ALL_PROXY": "http://p:1"}, "ALL_PROXY"),
    ],
)
def test_which_proxy_a_service_is_reached_through(url: str, env: dict[str, str], variable: str | None) -> None:
    proxy = proxy_for(url, env)
    assert (proxy and proxy.variable) == variable


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("ftp://user:canary@p:1", "HTTPS_PROXY names a proxy of an unknown kind"),
        ("http://user:canary@", "HTTPS_PROXY is no URL of a proxy"),
        ("http://user:canary@p:port", "HTTPS_PROXY is no URL of a proxy"),
        ("http://user:canary@p:99999", "HTTPS_PROXY is no URL of a proxy"),
        ("http://user:can ary@p:1", "HTTPS_PROXY is no URL of a proxy"),
    ],
)
def test_a_proxy_that_can_not_be_used_is_refused_and_not_shown(value: str, fault: str) -> None:
    with pytest.raises(EngineError) as caught:
        proxy_for("https://a.example", {"HTTPS_PROXY": value})
    assert (caught.value.message, "HTTPS_PROXY" in caught.value.hint) == (fault, True)
    assert "canary" not in caught.value.message + caught.value.hint


def test_a_socks_proxy_without_pysocks_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(EngineError) as caught:
        proxy_for("https://a.example", {"ALL_PROXY": f"socks5h://{USERINFO}@p:1080"})
    assert caught.value.message == (
        "the proxy socks5h://p:1080 (ALL_PROXY) speaks SOCKS, which needs PySocks, and that is not installed"
    )
    assert caught.value.hint == "pip install 'job-reconciler[socks]', or PySocks itself"


def test_a_proxy_shows_no_credentials() -> None:
    proxy = proxy_for("https://a.example", {"HTTPS_PROXY": f"http://{USERINFO}@p:1"})
    assert proxy is not None
    assert "proxyUser" not in repr(proxy) + proxy.shown
    assert {f"{USER}:{PASSWORD}", USER, PASSWORD, "proxy%2FPass+1"} <= set(proxy.secrets)


# Through a proxy


Kind = Callable[..., tuple[str, dict[str, str]]]


def test_a_tunnel_carries_calls_and_the_proxy_sees_no_token(ours: Authority, server_tls: ssl.SSLContext) -> None:
    with raw_server(always(OK), server_tls) as server, running(Proxy(server.port)) as proxy:
        env = trusting(ours, HTTPS_PROXY=f"http://{USERINFO}@127.0.0.1:{proxy.port}")
        with engine_at(f"https://{NAME}/v1", env) as engine:
            assert [engine.send(RUN).kind for _ in range(3)] == [AnswerClass.APPLIED] * 3
        assert server.connections == 1
    assert {request.headers["authorization"] for request in server.requests} == {TOKEN}
    assert not any("proxy-authorization" in request.headers for request in server.requests)
    [head] = proxy.heads
    assert head.startswith(f"CONNECT {NAME}:443 HTTP/1.")
    assert "\r\nProxy-Authorization: Basic cHJveHlVc2VyOnByb3h5L1Bhc3MrMQ==\r\n" in head
    assert "\r\nauthorization" not in head.lower()
    assert TOKEN not in head


def test_a_tunnel_through_a_proxy_over_tls(ours: Authority, server_tls: ssl.SSLContext) -> None:
    with (
        raw_server(always(OK), server_tls) as server,
        running(Proxy(server.port, tls=ours.server("localhost"))) as proxy,
        engine_at(f"https://{NAME}/v1", trusting(ours, HTTPS_PROXY=f"https://localhost:{proxy.port}")) as engine,
    ):
        assert [engine.send(RUN).kind for _ in range(2)] == [AnswerClass.APPLIED] * 2
    assert [request.headers["authorization"] for request in server.requests] == [TOKEN] * 2
    assert not any(TOKEN in head for head in proxy.heads)


def test_a_proxy_that_forwards_gets_the_whole_url_and_its_own_credentials() -> None:
    with raw_server(always(OK)) as server, running(Proxy(server.port)) as proxy:
        env = {"HTTP_PROXY": f"{USERINFO}@127.0.0.1:{proxy.port}"}
        with engine_at(f"http://{NAME}:8080/v1", env) as engine:
            assert engine.send(RUN).kind is AnswerClass.APPLIED
    [head] = proxy.heads
    assert head.startswith(f"POST http://{NAME}:8080/v1/jobs/j/run HTTP/1.1\r\n")
    assert f"\r\nHost: {NAME}:8080\r\n" in head
    assert "\r\nProxy-Authorization: Basic cHJveHlVc2VyOnByb3h5L1Bhc3MrMQ==\r\n" in head


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_a_socks_proxy_carries_calls(
    ours: Authority, server_tls: ssl.SSLContext, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: look_up(host.replace(NAME, "127.0.0.9"), *rest, **more)
    )
    with raw_server(always(OK), server_tls) as server, running(SocksProxy(server.port, "", (USER, PASSWORD))) as proxy:
        env = trusting(ours, ALL_PROXY=f"{scheme}://{USERINFO}@127.0.0.1:{proxy.port}")
        with engine_at(f"https://{NAME}/v1", env) as engine:
            assert [engine.send(RUN).kind for _ in range(2)] == [AnswerClass.APPLIED] * 2
        assert server.connections == 1
    assert isinstance(proxy, SocksProxy)
    assert proxy.asked == [f"{NAME}:443" if scheme == "socks5h" else "127.0.0.9:443"]


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("accept", "through the proxy http://127.0.0.1:PORT (HTTPS_PROXY)): no connection: CONNECT at the proxy: "),
        ("silent", "through the proxy http://127.0.0.1:PORT (HTTPS_PROXY)): no connection in time: CONNECT at the "),
        ("drip", "through the proxy http://127.0.0.1:PORT (HTTPS_PROXY)): no connection in time: CONNECT at the "),
        ("garbage", "no connection: CONNECT at the proxy: its answer is no HTTP (BadStatusLine); check HTTPS_PROXY"),
        ("half", "the proxy"),
        ("407", "the proxy refuses the connection: 407 No way; put a user and a password into HTTPS_PROXY"),
        ("403", "the proxy refuses the connection: 403 No way; have the proxy allow jobs.example.test"),
        ("502", "the proxy refuses the connection: 502 No way; check the endpoint and HTTPS_PROXY"),
        ("opened", "TLS handshake"),
        ("handshake", "TLS"),
        ("stalled", "no connection in time: TLS handshake took longer than 0.4 s"),
    ],
)
def test_a_tunnel_that_ends_before_the_request_is_not_sent(
    ours: Authority, server_tls: ssl.SSLContext, stage: str, words: str
) -> None:
    with raw_server(always(OK), server_tls) as server, running(Proxy(server.port, stage)) as proxy:
        env = trusting(ours, HTTPS_PROXY=f"http://{USERINFO}@127.0.0.1:{proxy.port}")
        began_s = time.monotonic()
        with engine_at(f"https://{NAME}/v1", env, connect_timeout_s=0.4) as engine:
            given = engine.send(RUN)
        took_s = time.monotonic() - began_s
    assert given.kind is AnswerClass.NOT_SENT
    assert words.replace("PORT", str(proxy.port)) in given.message
    assert "proxyUser" not in given.message
    assert took_s < SOON_S
    assert server.requests == []


def test_a_proxy_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with engine_at(f"https://{NAME}/v1", {"https_proxy": f"http://{USERINFO}@127.0.0.1:{port}"}) as engine:
        assert engine.send(RUN) == Result(
            AnswerClass.NOT_SENT,
            Reason.OTHER,
            f"the proxy http://127.0.0.1:{port} (https_proxy): the host refused the connection; "
            "check https_proxy: nothing listens there",
        )


@pytest.mark.parametrize("stage", ["silent", "half", "502"])
def test_a_socks_proxy_that_ends_before_the_request_is_not_sent(
    ours: Authority, server_tls: ssl.SSLContext, stage: str
) -> None:
    with raw_server(always(OK), server_tls) as server, running(SocksProxy(server.port, stage)) as proxy:
        env = trusting(ours, ALL_PROXY=f"socks5h://127.0.0.1:{proxy.port}")
        with engine_at(f"https://{NAME}/v1", env, connect_timeout_s=0.4) as engine:
            given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert f"the proxy socks5h://127.0.0.1:{proxy.port} (ALL_PROXY)" in given.message
    assert server.requests == []


def test_a_socks_proxy_that_rejects_the_password_is_not_sent(ours: Authority, server_tls: ssl.SSLContext) -> None:
    with raw_server(always(OK), server_tls) as server, running(SocksProxy(server.port, "", ("a", "b"))) as proxy:
        env = trusting(ours, ALL_PROXY=f"socks5h://{USERINFO}@127.0.0.1:{proxy.port}")
        with engine_at(f"https://{NAME}/v1", env) as engine:
            given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert "proxyUser" not in given.message


@pytest.mark.parametrize("stage", ["unforwarded", "forwarded", "silent", "drip", "half", "garbage"])
def test_a_request_that_a_forwarding_proxy_received_counts_as_sent(stage: str) -> None:
    with raw_server(always(OK)) as server, running(Proxy(server.port, stage)) as proxy:
        env = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"}
        with engine_at(f"http://{NAME}/v1", env, timeout_s=0.4) as engine:
            given = engine.send(RUN)
    assert given.kind is AnswerClass.IN_DOUBT
    assert f"(through the proxy http://127.0.0.1:{proxy.port} (HTTP_PROXY))" in given.message
    assert len(server.requests) == (1 if stage == "forwarded" else 0)
    assert len(proxy.heads) == 1


def test_a_forwarding_proxy_that_wants_a_password_did_not_do_the_call() -> None:
    with (
        raw_server(always(OK)) as server,
        running(Proxy(server.port, "407")) as proxy,
        engine_at(f"http://{NAME}/v1", {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"}) as engine,
    ):
        given = engine.send(RUN)
    assert (given.kind, int(given.code)) == (AnswerClass.REJECTED, 407)
    assert given.message == "Proxy Authentication Required"


def test_sixty_four_threads_share_a_tunnelling_proxy(ours: Authority, server_tls: ssl.SSLContext) -> None:
    def echo(request: Request, _connection: socket.socket) -> bytes:
        return answer(200, json.dumps({"ok": True, "requestId": request.path.split("/")[3]}))

    with raw_server(echo, server_tls) as server, running(Proxy(server.port)) as proxy:
        env = trusting(ours, HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        with engine_at(f"https://{NAME}/v1", env, parallelism=64) as engine, ThreadPoolExecutor(64) as pool:
            ids = [f"j-{number}" for number in range(256)]
            given = list(pool.map(lambda job_id: engine.send(step_for(Verb.RUN, job_id, {})), ids))
    assert [each.trace_id for each in given] == ids
    assert server.connections <= 64


# Certificates


def rehashed(ours: Authority, folder: Path) -> Path:
    """Return a folder of certificates in the form of OpenSSL: each file has the hash of the subject as its name."""
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(ours.file)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (folder / f"{name}.0").write_bytes(ours.file.read_bytes())
    return folder


@pytest.mark.parametrize(
    "named_by",
    ["target.ca", "target.ca, a folder", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"],
)
def test_a_private_authority_is_trusted_where_it_is_named(
    ours: Authority, server_tls: ssl.SSLContext, named_by: str, tmp_path: Path
) -> None:
    env, access = {named_by: str(ours.file)}, Access()
    if named_by == "SSL_CERT_DIR":
        env = {named_by: str(rehashed(ours, tmp_path))}
    elif named_by == "target.ca":
        env, access = {"REQUESTS_CA_BUNDLE": "/nowhere"}, Access(ca=str(ours.file))
    elif named_by == "target.ca, a folder":
        env, access = {}, Access(ca=str(rehashed(ours, tmp_path)))
    with (
        raw_server(always(OK), server_tls) as server,
        engine_at(f"https://localhost:{server.port}", env, access) as engine,
    ):
        assert engine.send(RUN).kind is AnswerClass.APPLIED


@pytest.mark.parametrize("env", [{}, {"REQUESTS_CA_BUNDLE": ""}])
def test_a_certificate_that_nobody_vouches_for_names_what_was_trusted(
    server_tls: ssl.SSLContext, env: dict[str, str]
) -> None:
    with raw_server(always(OK), server_tls) as server, engine_at(f"https://localhost:{server.port}", env) as engine:
        assert engine.send(RUN) == Result(
            AnswerClass.NOT_SENT,
            Reason.OTHER,
            f"localhost:{server.port}: TLS failed: the certificate is not accepted (unable to get local issuer "
            "certificate) by the certificates that come with certifi; "
            "name the CA that signed it: target.ca, or REQUESTS_CA_BUNDLE",
        )
        assert server.requests == []


def test_the_target_authority_alone_counts_where_the_target_names_one(ours: Authority, tmp_path: Path) -> None:
    other = authority(tmp_path)
    with raw_server(always(OK), ours.server()) as server:
        env = {"REQUESTS_CA_BUNDLE": str(ours.file)}
        with engine_at(f"https://localhost:{server.port}", env, Access(ca=str(other.file))) as engine:
            given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert f"by {other.file} (target.ca); name the CA" in given.message


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (lambda ours: ours.server(expired=True), "certificate has expired); have the server's certificate renewed"),
        (lambda ours: ours.server("other.example.test"), "); use a name that the certificate is for"),
    ],
    ids=["expired", "another name"],
)
def test_a_certificate_that_is_not_right_is_not_sent_to(
    ours: Authority, tls: Callable[[Authority], ssl.SSLContext], words: str
) -> None:
    with (
        raw_server(always(OK), tls(ours)) as server,
        engine_at(f"https://localhost:{server.port}", trusting(ours)) as engine,
    ):
        given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert words in given.message
    assert server.requests == []


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file or directory"), (b"", "no certificate"), (b"no certificate", "no certificate")],
)
def test_certificates_that_can_not_be_read_are_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EngineError) as caught, engine_at("https://localhost", {"CURL_CA_BUNDLE": str(file)}):
        pass
    assert caught.value.message.startswith(f"{file} (CURL_CA_BUNDLE): can't be read: {words}")
    assert caught.value.hint == "check CURL_CA_BUNDLE: it is to name certificates of authorities, in PEM"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("files", ["one", "two"])
def test_a_server_that_asks_for_a_certificate_gets_the_targets(
    ours: Authority, tmp_path: Path, files: str, version: ssl.TLSVersion
) -> None:
    certificate, key, both = ours.client(tmp_path)
    shown = (str(both), "") if files == "one" else (str(certificate), str(key))
    tls = ours.server(asks_client=True)
    tls.maximum_version = version
    with (
        raw_server(always(OK), tls) as server,
        engine_at(f"https://localhost:{server.port}", {}, Access(str(ours.file), *shown)) as engine,
    ):
        assert [engine.send(RUN).kind for _ in range(2)] == [AnswerClass.APPLIED] * 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shows", ["none", "a stranger's"])
def test_a_server_that_refuses_our_certificate_was_sent_nothing(
    ours: Authority, tmp_path: Path, version: ssl.TLSVersion, shows: str
) -> None:
    """In TLS 1.3 the request has left before the alert, and the server never reads the request."""
    tls = ours.server(asks_client=True)
    tls.maximum_version = version
    shown = "" if shows == "none" else str(authority(tmp_path).client(tmp_path)[2])
    refused = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, pytest.raises(ssl.SSLError):
            # The request stays unread until the client has read the alert. A close would reset the connection.
            tls.wrap_socket(connection, server_side=True, suppress_ragged_eofs=True)
        refused.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        endpoint = f"https://localhost:{listener.getsockname()[1]}"
        with engine_at(endpoint, {}, Access(str(ours.file), shown)) as engine:
            given = engine.send(RUN)
        thread.join()
    assert given.kind is AnswerClass.NOT_SENT
    assert any(
        words in given.message
        for words in (
            "; name a certificate that the server takes: target.clientCertificate",
            # The server may have closed the connection before the request was written.
            "the connection was closed before the request left",
        )
    )


def test_a_proxy_over_tls_gets_no_certificate_of_ours(ours: Authority, tmp_path: Path) -> None:
    both = ours.client(tmp_path)[2]
    asking = ours.server("localhost", asks_client=True)
    asking.maximum_version = ssl.TLSVersion.TLSv1_2
    with running(Proxy(1, tls=asking)) as proxy:
        env = {"HTTPS_PROXY": f"https://localhost:{proxy.port}"}
        with engine_at(f"https://{NAME}", env, Access(str(ours.file), str(both))) as engine:
            given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert given.message.startswith(f"the proxy https://localhost:{proxy.port} (HTTPS_PROXY): TLS failed")


def test_a_certificate_of_ours_that_can_not_be_used_is_named(ours: Authority, tmp_path: Path) -> None:
    certificate, key, _ = ours.client(tmp_path)
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", str(key), "-out", str(encrypted)]
    subprocess.run(command, check=True, capture_output=True)
    for shown, words in [
        ((str(tmp_path / "none"), ""), f"{tmp_path / 'none'} (target.clientCertificate): can't be read: No such file"),
        ((str(certificate), str(encrypted)), "can't be used: the key is encrypted"),
        ((str(certificate), ""), "can't be used: "),
        ((str(ours.file), str(key)), "can't be used: "),
    ]:
        with pytest.raises(EngineError) as caught, engine_at("https://localhost", {}, Access("", *shown)):
            pass
        assert words in caught.value.message
        assert caught.value.hint.startswith("check target.clientCertificate: ")


# One deadline


FLOODS = {
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100,
    "trailers": b"X-Trailer: y\r\n" * 100,
    "chunks": b"1\r\nx\r\n",
    "head": b"x",
    "nothing": b"",
}
HEADS = {
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "head": b"HTTP/1.1 200 OK\r\nX-",
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("way", ["plain", "tls", "tunnel"])
def test_an_answer_that_does_not_end_is_ended_by_the_deadline(
    ours: Authority, server_tls: ssl.SSLContext, flood: str, way: str
) -> None:
    def answering(_request: Request, connection: socket.socket) -> None:
        connection.sendall(HEADS.get(flood, b""))
        ends_s = time.monotonic() + 2 * SOON_S
        while time.monotonic() < ends_s and not server.closing.wait(DRIP_S / 10):
            connection.sendall(FLOODS[flood])

    with raw_server(answering, None if way == "plain" else server_tls) as server, running(Proxy(server.port)) as proxy:
        endpoint = f"https://{NAME}" if way == "tunnel" else server.url
        env = trusting(ours, HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        with engine_at(endpoint, env, timeout_s=0.5) as engine:
            began_s = time.monotonic()
            given = engine.send(RUN)
            took_s = time.monotonic() - began_s
    assert given.kind is AnswerClass.IN_DOUBT
    assert given.message.startswith("no whole answer within 0.5 s: its ")
    assert 0.5 <= took_s < SOON_S


def test_a_tls_handshake_that_drips_is_ended_by_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    dripping(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + b"\x00" * 200)(connection)
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        began_s = time.monotonic()
        with engine_at(f"https://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_s=0.3) as engine:
            given = engine.send(RUN)
        took_s = time.monotonic() - began_s
        thread.join()
    assert given.kind is AnswerClass.NOT_SENT
    assert "no connection in time: TLS handshake took longer than 0.3 s" in given.message
    assert 0.3 <= took_s < SOON_S


# Nothing left on a connection


STRAY = answer(200, '{"ok": true, "requestId": "stray"}')


@pytest.mark.parametrize("pieces", ["one", "two"])
def test_a_stray_answer_over_tls_is_never_the_answer_to_the_next_request(
    ours: Authority, server_tls: ssl.SSLContext, pieces: str
) -> None:
    numbers = count(1)

    def answering(_request: Request, connection: socket.socket) -> bytes:
        own = answer(200, json.dumps({"ok": True, "requestId": f"r-{next(numbers)}"}))
        if pieces == "one":
            return own + STRAY
        connection.sendall(own)
        return STRAY

    with (
        raw_server(answering, server_tls) as server,
        engine_at(f"https://localhost:{server.port}", trusting(ours)) as engine,
    ):
        given = []
        for _ in range(5):
            given.append(engine.send(RUN).trace_id)
            time.sleep(0.05)
    assert given == ["r-1", "r-2", "r-3", "r-4", "r-5"]
    assert len(server.requests) == server.connections == 5


def test_a_stray_answer_that_is_longer_than_a_buffer_is_seen(ours: Authority, server_tls: ssl.SSLContext) -> None:
    """The stray bytes are decrypted inside the TLS layer, so neither the socket nor the reader shows them."""
    numbers = count(1)

    def answering(_request: Request, _connection: socket.socket) -> bytes:
        return answer(200, json.dumps({"ok": True, "requestId": f"r-{next(numbers)}", "message": "x" * 9000})) + STRAY

    with (
        raw_server(answering, server_tls) as server,
        engine_at(f"https://localhost:{server.port}", trusting(ours)) as engine,
    ):
        assert [engine.send(RUN).trace_id for _ in range(4)] == ["r-1", "r-2", "r-3", "r-4"]
    assert server.connections == 4


# A machine with no room for more connections


_FULL = """
import resource, socket, sys, threading
from concurrent.futures import ThreadPoolExecutor
from random import Random
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.model.jobs import Verb
from reconciler.model.steps import Step

engine = ByteniteEngine(
    sys.argv[1], Credentials("canary-token"), parallelism=32, max_rps=None, wait=lambda _: False, random=Random(1)
)
engine.send(Step(Verb.RUN, "warm-up"))  # what is imported on the way is open by now
taken = []
try:
    while True:
        taken.append(socket.socket())
except OSError:
    for each in taken[:5]:
        each.close()
with ThreadPoolExecutor(32) as pool:
    given = list(pool.map(lambda number: engine.send(Step(Verb.RUN, f"j-{number}")), range(200)))
print(sorted({f"{each.kind}: {each.message}" for each in given}))
"""


def test_with_no_room_for_more_connections_those_that_there_are_carry_all() -> None:
    """Each call that finds no room is not sent, and is sent once on the connection of another call."""

    def answering(_request: Request, _connection: socket.socket) -> bytes:
        time.sleep(0.01)
        return OK

    with raw_server(answering) as server:
        run = subprocess.run(
            ["prlimit", "--nofile=64:64", sys.executable, "-c", _FULL, server.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.stdout == "['applied: ']\n", run
    assert len(server.requests) == 201
    assert server.connections < 12


# By the manifest


def test_a_manifest_names_authority_and_certificate_relative_to_itself(ours: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "media"
    folder.mkdir(parents=True)
    certificate, key, _ = ours.client(folder)
    (folder / "ca.pem").write_bytes(ours.file.read_bytes())
    project = Project(tmp_path)
    project.env |= {"BYTENITE_ACCESS_TOKEN": TOKEN, "REQUESTS_CA_BUNDLE": "/nowhere"}
    draft = answer(200, '{"job": {"id": "a", "state": "JOB_STATE_NEW"}}')
    with raw_server(
        lambda request, _: draft if request.method == "GET" else OK, ours.server(asks_client=True)
    ) as server:
        (folder / "target.yaml").write_text(
            "apiVersion: reconciler/v1\n"
            f"target:\n  engine: bytenite\n  endpoint: https://localhost:{server.port}\n  ca: ca.pem\n"
            f"  clientCertificate: {{certificate: {certificate.name}, key: {key.name}}}\n"
        )
        (tmp_path / "jobs" / "jobs.yaml").write_text("apiVersion: reconciler/v1\njobs:\n  a: {state: running}\n")
        run = project.run("apply", "--yes", "jobs")
    assert run.code == 0, run
    # The records hold neither file: the certificate does not change which service it is.
    state = (tmp_path / "jobs.state.json").read_text()
    assert "ca.pem" not in state
    assert json.loads(state)["target"] == {"engine": "bytenite", "endpoint": f"https://localhost:{server.port}"}


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        ("ca: 3", "ca: expected text, found 3"),
        ("ca: ''", "ca: "),
        ("insecure: 'yes'", "insecure: expected true or false"),
        ("clientCertificate: {certificate: a}", '"key"'),
        ("clientCertificate: {certificate: a, key: b, passphrase: c}", "passphrase"),
    ],
)
def test_a_field_of_the_way_that_is_wrong_is_refused_at_its_place(tmp_path: Path, field: str, fault: str) -> None:
    project = Project(tmp_path)
    (tmp_path / "jobs.yaml").write_text(
        f"apiVersion: reconciler/v1\ntarget:\n  engine: bytenite\n  {field}\njobs:\n  a: {{state: running}}\n"
    )
    run = project.run("validate")
    assert run.code == 1
    assert "jobs.yaml:4:" in run.out
    assert fault in run.out


def test_a_token_in_clear_is_said_in_every_view(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "jobs.yaml").write_text(
        "apiVersion: reconciler/v1\n"
        f"target: {{engine: bytenite, endpoint: 'http://{NAME}/v1', insecure: true}}\njobs:\n  a: {{state: running}}\n"
    )
    printed = "is http: the access token goes over the network in clear"
    views = ["text", "json", "markdown", "html", "github"]
    assert [printed in project.run("plan", "--format", view).out for view in views] == [True] * 5
    assert f"Warning: http://{NAME}/v1 {printed}" in project.run("apply", "--dry-run").err
    project.run("plan", "--out", "plan.json")
    assert printed in (tmp_path / "plan.json").read_text()


def test_another_endpoint_is_reached_as_the_target_says(tmp_path: Path) -> None:
    """`--endpoint` replaces only the endpoint of the target."""
    project = Project(tmp_path)
    project.write("a: {state: running}")
    refused = project.run("plan", "--endpoint", f"http://{NAME}/v1")
    assert (refused.code, "is http: use https" in refused.err) == (64, True)
    manifest = tmp_path / "jobs.yaml"
    manifest.write_text(manifest.read_text().replace("{engine: sandbox}", "{engine: bytenite, insecure: true}"))
    assert f"http://{NAME}/v1 is http: " in project.run("plan", "--endpoint", f"http://{NAME}/v1").out


# A name server that keeps silent


_NAMESPACE = """
import ctypes, fcntl, os, socket, struct, subprocess, sys, threading
resolv = sys.argv[1]
CLONE_NEWNS, CLONE_NEWNET, MS_REC, MS_PRIVATE, MS_BIND = 0x20000, 0x40000000, 0x4000, 0x40000, 0x1000
libc = ctypes.CDLL(None, use_errno=True)
for done in (
    libc.unshare(CLONE_NEWNS | CLONE_NEWNET),
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
    libc.mount(resolv.encode(), b"/etc/resolv.conf", None, MS_BIND, None),
):
    if done:
        sys.exit(77)
with socket.socket() as any_socket:  # the loopback interface of the new network, up
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x49))
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
asked = []
def serve():
    while True:
        asked.append(names.recvfrom(512))  # and no answer
threading.Thread(target=serve, daemon=True).start()
run = subprocess.run(sys.argv[2:], capture_output=True, text=True)
sys.stdout.write(run.stdout)
sys.stderr.write(run.stderr)
sys.exit(run.returncode if asked else 78)
"""


def test_a_name_server_that_keeps_silent_is_waited_for_no_longer_than_for_a_connection(tmp_path: Path) -> None:
    """The name server is a real one, on machines that allow a network namespace."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    program = (
        "import sys, time\n"
        "from random import Random\n"
        "from reconciler.engines.bytenite.auth import Credentials\n"
        "from reconciler.engines.bytenite.engine import ByteniteEngine\n"
        "from reconciler.model.jobs import Verb\n"
        "from reconciler.model.steps import Step\n"
        f"engine = ByteniteEngine('https://{NAME}', Credentials('canary-token'), parallelism=1, max_rps=None,\n"
        "    wait=lambda _: True, random=Random(1), connect_timeout_s=0.5)\n"
        "began_s = time.monotonic()\n"
        "given = engine.send(Step(Verb.RUN, 'j'))\n"
        "print(given.kind, time.monotonic() - began_s < 5, given.message)\n"
    )
    command = [sys.executable, "-c", _NAMESPACE, str(resolv), sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if run.returncode == 77:
        pytest.skip("only root may have a network of its own")
    assert run.returncode == 0, run
    assert run.stdout.startswith(f"not sent True {NAME}: no connection in time: name look-up took longer than 0.5 s")


# The Action, on a GitHub of one's own


_ASKS_GITHUB = """
import os, sys
sys.path.insert(0, sys.argv[1])
from github_api import Api, ApiError
try:
    print(Api(os.environ, "canary-token").get("issues/1"))
except ApiError as fault:
    print("fault:", fault)
"""


def asked_of_github(env: Mapping[str, str], port: int = 443) -> str:
    url = f"https://{NAME}:{port}/api/v3"
    own = {"GITHUB_API_URL": url, "GITHUB_REPOSITORY": "o/r"}
    run = subprocess.run(
        [sys.executable, "-c", _ASKS_GITHUB, str(CI)],
        env={**os.environ, **NOBODY, **own, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run
    return run.stdout.strip()


def test_the_action_reaches_a_github_behind_a_proxy_and_a_private_authority(
    ours: Authority, server_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login canaryNet password canaryNet\n")
    with raw_server(always(answer(200, '{"number": 1}')), server_tls) as server, running(Proxy(server.port)) as proxy:
        through = {"HTTPS_PROXY": f"http://{USERINFO}@127.0.0.1:{proxy.port}", "NETRC": str(netrc)}
        assert asked_of_github(trusting(ours, **through)) == "{'number': 1}"
        assert asked_of_github({**through, "SSL_CERT_FILE": str(ours.file)}) == "{'number': 1}"
        [head, _] = proxy.heads
        shown = f"through the proxy http://127.0.0.1:{proxy.port} (HTTPS_PROXY)"
        assert asked_of_github(through) == (
            f"fault: SSLError {shown}, trusting the certificates that come with certifi"
        )
        proxy.stage = "407"
        assert asked_of_github(trusting(ours, **through)) == f"fault: ProxyError {shown}"
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer canary-token"}
    assert "Proxy-Authorization: Basic cHJveHlVc2VyOnByb3h5L1Bhc3MrMQ==\r\n" in head
    assert "canary" not in head


def test_the_action_says_what_is_wrong_with_a_proxy() -> None:
    printed = asked_of_github({"HTTPS_PROXY": "ftp://user:canary@p:1"})
    assert printed.startswith("fault: HTTPS_PROXY names a proxy of an unknown kind: set HTTPS_PROXY to ")
    assert "canary" not in printed

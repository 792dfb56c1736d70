"""The faults of an exchange in words: the place, the stage, and the remedy."""

import http.client
import re
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from requests import RequestException

from reconciler.engines.http.endpoints import is_loopback
from reconciler.engines.http.exchange import Exchange, Stage
from reconciler.engines.http.network import Network
from reconciler.host.crash_report import exhausted_resource

_UNKNOWN_CA, _NOT_VALID_NOW, _OTHER_NAME = (18, 19, 20, 21), (9, 10), (62, 64)
"""OpenSSL's codes of the faults of a certificate (x509_vfy.h)."""

_CLIENT_REFUSED = re.compile("ALERT_(CERTIFICATE_|BAD_CERTIFICATE|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)")
"""The alerts of a server that refuses the certificate of the client, or that misses a certificate."""


class Fault(NamedTuple):
    """The description of a failure, and the remedy, or "" if no remedy is known.

    `is_exhausted` is True if this machine can't open another connection.
    """

    text: str
    remedy: str = ""
    is_exhausted: bool = False


class FaultContext(NamedTuple):
    """The facts that the faults of one transport name.

    These are the URL of the service, the network and the limits in seconds.
    """

    url: str
    network: Network
    timeout_s: float
    connect_timeout_s: float

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def fault(self, exchange: Exchange, error: BaseException) -> Fault:
        """Return the fault for an error of the exchange.

        The text never holds the message of a library's error, since such a message may quote a header.
        """
        cause = _cause(error)
        if exchange.is_sent:
            text = _after_sending(cause, exchange.stage, self.timeout_s)
            return Fault(f"{text} (through {self.network.proxy.shown})" if self.network.proxy else text)
        if exhausted := exhausted_resource(cause):
            return Fault(f"{self.host}: {exhausted}", is_exhausted=True)
        return self._before_sending(cause, exchange.stage)

    def _before_sending(self, cause: BaseException, stage: Stage) -> Fault:
        proxy = self.network.proxy
        nearest = proxy.shown if proxy else self.host
        beyond = f"{self.host} (through {proxy.shown})" if proxy else self.host
        mend = f"check {proxy.variable}" if proxy else f"check {self.network.settings.endpoint}"
        variable = f"{urlsplit(self.url).scheme}_proxy".upper()
        more = "" if proxy or is_loopback(self.url) else f"; where a proxy leads out, name it with {variable}"
        match cause, stage:
            case socket.gaierror(), _:
                return Fault(f"{nearest}: the host name does not resolve", f"{mend} and the name server{more}")
            case TimeoutError(), _:
                where = nearest if stage in (Stage.LOOK_UP, Stage.CONNECT, Stage.PROXY_TLS) else beyond
                return Fault(
                    f"{where}: no connection in time: {stage} took longer than {self.connect_timeout_s:g} s",
                    f"{mend} and the network{more}",
                )
            case ConnectionRefusedError(), Stage.CONNECT:
                return Fault(f"{nearest}: the host refused the connection", f"{mend}: nothing listens there")
            case ssl.SSLError(), Stage.PROXY_TLS:
                return self._tls(cause, nearest)
            case OSError(), Stage.HEAD if not isinstance(cause, ssl.SSLError) or "EOF" in type(cause).__name__:
                return Fault(f"{beyond}: the connection was closed before the request left")
            case _, Stage.TUNNEL:
                return self._tunnel(cause, beyond)
            case ssl.SSLError(), _:
                return self._tls(cause, beyond)
            case OSError(), Stage.CONNECT if proxy and proxy.scheme.startswith("socks"):
                return Fault(f"{self.host}: {proxy.shown} makes no connection ({_word(cause)})", mend)
            case OSError(), _:
                where = nearest if stage in (Stage.LOOK_UP, Stage.CONNECT, Stage.PROXY_TLS) else beyond
                return Fault(f"{where}: no connection: {stage}: {_word(cause)}", mend)
            case _:
                return Fault(f"{self.host}: the request could not be made ({type(cause).__name__})")

    def _tls(self, cause: ssl.SSLError, where: str) -> Fault:
        if not isinstance(cause, ssl.SSLCertVerificationError):
            reason = getattr(cause, "reason", None) or ""
            text = f"{where}: TLS failed: TLS handshake: {reason.replace('_', ' ').lower() or type(cause).__name__}"
            if "ALERT_HANDSHAKE_FAILURE" in reason or _CLIENT_REFUSED.search(reason):
                return Fault(text, f"name a certificate that the server takes: {self.network.settings.certificate}")
            return Fault(text, f"see that {self.network.settings.endpoint} speaks TLS there")
        text = f"{where}: TLS failed: the certificate is not accepted ({cause.verify_message})"
        match cause.verify_code:
            case code if code in _UNKNOWN_CA:
                return Fault(
                    f"{text} by {self.network.trusted}",
                    f"name the CA that signed it: {self.network.settings.ca}",
                )
            case code if code in _NOT_VALID_NOW:
                return Fault(text, "have the server's certificate renewed, and see that this machine's clock is right")
            case code if code in _OTHER_NAME:
                return Fault(text, "use a name that the certificate is for")
        return Fault(f"{text} by {self.network.trusted}")

    def _tunnel(self, cause: BaseException, where: str) -> Fault:
        assert self.network.proxy
        variable = self.network.proxy.variable
        refused = re.fullmatch(r"Tunnel connection failed: (\d{3}) ?(.*)", str(cause), re.DOTALL)
        if refused is None:
            return Fault(f"{where}: no connection: {Stage.TUNNEL}: {_word(cause)}", f"check {variable}")
        text = f"{where}: the proxy refuses the connection: {refused[1]} {refused[2]}".rstrip()
        match refused[1]:
            case "407":
                return Fault(text, f"put a user and a password into {variable}: http://USER:PASSWORD@HOST:PORT")
            case "403" | "405":
                return Fault(text, f"have the proxy allow {self.host}, or name the host in NO_PROXY")
        return Fault(text, f"check {self.network.settings.endpoint} and {variable}")


def is_refusal_of_client(error: BaseException, exchange: Exchange) -> bool:
    """Return whether the server refused our certificate, or the lack of one, after the request had left.

    In TLS 1.3 the client ends its handshake and sends the request before the server has checked the certificate. An
    alert before any answer proves that the server never read the request.
    """
    cause = _cause(error)
    is_alert = isinstance(cause, ssl.SSLError) and _CLIENT_REFUSED.search(getattr(cause, "reason", None) or "")
    return bool(is_alert) and exchange.is_new_tls_1_3 and exchange.stage is Stage.HEAD


def _cause(error: BaseException) -> BaseException:
    """Return the innermost error of the network or of HTTP. Each library wraps such an error in a way of its own."""
    cause, steps, seen = error, [error], set[int]()
    while steps:
        step = steps.pop(0)
        if isinstance(step, (OSError, http.client.HTTPException)) and not isinstance(step, RequestException):
            cause = step
        seen.add(id(step))
        within = (step.__cause__, step.__context__, *step.args)
        steps += [each for each in within if isinstance(each, BaseException) and id(each) not in seen]
    return cause


def _after_sending(cause: BaseException, stage: Stage, timeout_s: float) -> str:
    match cause:
        case TimeoutError():
            return f"no whole answer within {timeout_s:g} s: its {stage} did not end"
        case http.client.RemoteDisconnected():
            return "the connection was closed before an answer came"
        case ConnectionError():
            return "the connection was reset before the whole answer came"
        case http.client.IncompleteRead():
            return "the answer broke off before its end"
        case _:
            return f"what came back is no readable HTTP answer ({type(cause).__name__})"


def _word(error: BaseException) -> str:
    """Return the kind of an error in the words of the operating system, or the name of the error's class."""
    if isinstance(error, http.client.HTTPException):
        return f"its answer is no HTTP ({type(error).__name__})"
    return (error.strerror if isinstance(error, OSError) and error.errno else None) or type(error).__name__

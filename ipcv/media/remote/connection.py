"""Connections to web servers, with bounds on time and on where redirects may lead."""

import ipaddress
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    LineTooLong,
    RemoteDisconnected,
)
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from ipcv.errors import ReadTimeoutError, VideoError, first_line, is_about_space
from ipcv.media.remote.deadline import Deadline
from ipcv.text import shown, visible

CONNECT = 10.0  # seconds in which a server must take the connection
ANSWER = 20.0  # seconds in which it must answer, all redirects counted
SILENCE = 30.0  # seconds that may pass between two pieces of a file
TOTAL = 3600.0  # seconds that a whole file may take
REDIRECTS = 10
_SAFE = "!#$%&'()*+,/:;=?@[]~"  # what stays as it is in an address
_HINTS = {
    401: "it wants a login: give one in the address (https://name:password@host/), or download the file yourself",
    403: "it is forbidden: the link may have expired, or needs a login",
    404: "it does not exist there: check the address",
    410: "it is gone: give another address",
    429: "the server wants fewer requests: try again later",
}


class RefusedError(Exception):
    """Why a file cannot be fetched, without its URL."""


@contextmanager
def opened(url: str, seconds: float, *, allow_private: bool, total: float = TOTAL) -> Iterator[HTTPResponse]:
    """The answer to a GET, whose headers are there within `seconds`, and which may be read for `total` seconds.

    A HEAD would tell as much, but some servers never answer one, and signed links do not allow it. Raises `VideoError`
    with the URL, also for errors in the `with`.
    """
    with Deadline(seconds) as deadline, ExitStack() as stack:
        try:
            answer = _followed(urlsplit(url), deadline, stack, is_free=allow_private)
            deadline.check()
            _check(answer)
            deadline.extend(total, "its end has not come")
            yield answer
            deadline.check()
        except (RefusedError, HTTPException, OSError, ValueError) as error:
            raise _explained(url, error, deadline) from error


def _followed(where: SplitResult, deadline: Deadline, stack: ExitStack, *, is_free: bool) -> HTTPResponse:
    """The answer at the end of all redirects. Its connection is closed by `stack`."""
    for hop in range(REDIRECTS + 1):
        connection, peer = _connected(where, deadline, may_be_private=is_free or not hop)
        stack.callback(connection.close)
        is_free |= is_private(peer)  # whoever names a private address may be led to others
        answer = _asked(connection, where, login=_login(where) if not hop else {})
        if answer.status not in (301, 302, 303, 307, 308):
            return answer
        where = _redirected(where, answer)
    raise RefusedError(f"it redirects more than {REDIRECTS} times: give the address where that ends")


def is_private(address: str) -> bool:
    """Whether an IP address is of this machine or of its own network, and not of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return not ip.is_global or ip.is_multicast


def _connected(where: SplitResult, deadline: Deadline, *, may_be_private: bool) -> tuple[HTTPConnection, str]:
    """A connection to the host of an address, and that host's IP address. The request is not sent yet."""
    if where.scheme not in ("http", "https") or not where.hostname:
        raise RefusedError(f"it redirects to {shown(where.geturl())}, which is no web address")
    secure = where.scheme == "https"
    connection = HTTPSConnection(where.hostname, where.port, context=_tls()) if secure else _plain(where)
    place = (connection.host, connection.port)
    if not may_be_private:
        for *_, peer in socket.getaddrinfo(*place, type=socket.SOCK_STREAM):
            _check_public(where, str(peer[0]))
    connected = socket.create_connection(place, timeout=min(CONNECT, deadline.seconds))
    deadline.watch(connected)
    peer = connected.getpeername()[0]
    if not may_be_private:
        _check_public(where, peer)  # the name may stand for another address by now
    if secure:
        connected = _tls().wrap_socket(connected, server_hostname=connection.host, do_handshake_on_connect=False)
        deadline.watch(connected)
        connected.do_handshake()
    connected.settimeout(SILENCE)
    connection.sock = connected
    return connection, peer


def _plain(where: SplitResult) -> HTTPConnection:
    return HTTPConnection(where.hostname or "", where.port)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _check_public(where: SplitResult, address: str) -> None:
    if is_private(address):
        raise RefusedError(
            f"it redirects to {shown(where.netloc)}, which is on this machine or its network: give `allow_private` if "
            "that is meant"
        )


def _asked(connection: HTTPConnection, where: SplitResult, login: dict[str, str]) -> HTTPResponse:
    target = quote(where.path or "/", safe=_SAFE) + (f"?{quote(where.query, safe=_SAFE)}" if where.query else "")
    headers = {"User-Agent": "ipcv", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close", **login}
    connection.request("GET", target, headers=headers)
    return connection.getresponse()


def _login(where: SplitResult) -> dict[str, str]:
    """The header for the name and password in an address."""
    if where.username is None:
        return {}
    pair = f"{unquote(where.username)}:{unquote(where.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _check(answer: HTTPResponse) -> None:
    """Raise `RefusedError` unless the answer brings the file."""
    status = answer.status
    if status != 200:
        hint = _HINTS.get(status) or (
            "the server has failed: try again later" if status >= 500 else "check the address"
        )
        raise RefusedError(f"the server answers {status} {visible(answer.reason)}; {hint}".replace("  ", " "))
    coding = answer.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity":
        raise RefusedError(f"the server sends it compressed ({shown(coding)}): download and unpack it yourself")


def _redirected(where: SplitResult, answer: HTTPResponse) -> SplitResult:
    location = answer.headers["Location"]
    if not location:
        raise RefusedError(f"the server answers {answer.status} without saying where to: check the address")
    return urlsplit(urljoin(where.geturl(), location))


def _explained(url: str, error: Exception, deadline: Deadline) -> VideoError:
    if isinstance(error, OSError) and is_about_space(error):
        return VideoError(f"there is no room for a copy of {shown(url)}: make room, or set TMPDIR to another folder")
    kind = ReadTimeoutError if deadline.has_passed or isinstance(error, TimeoutError) else VideoError
    return kind(f"{shown(url)} cannot be fetched: {_reason(url, error, deadline)}")


def _reason(url: str, error: Exception, deadline: Deadline) -> str:
    """Why there is no file, and what would work."""
    if deadline.has_passed:
        return f"{deadline.lacks} within {deadline.seconds:g} s: try again later"
    match error:
        case RefusedError():
            return str(error)
        case ConnectionRefusedError():
            return "the host refuses the connection: check the address and port, and whether the server runs"
        case socket.gaierror() | UnicodeError():
            return f"the host {shown(urlsplit(url).hostname or '')} is not known: check the address and the network"
        case TimeoutError():
            return "the server was silent for too long: try again later"
        case ssl.SSLCertVerificationError():
            return f"the certificate of the host is not trusted ({visible(error.verify_message)})"
        case RemoteDisconnected() | ConnectionResetError() | BrokenPipeError():
            return "the server closed the connection: try again later"
        case BadStatusLine():
            return "what answers there is no web server: check the address and port"
        case LineTooLong():
            return "the server sends headers that are too large"
        case HTTPException() if "headers" in str(error):
            return "the server sends too many headers"
        case IncompleteRead():
            return "the connection broke off: try again"
    text = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return visible(text[:200])

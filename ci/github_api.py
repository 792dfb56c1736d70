"""GitHub's REST API for one repository (https://docs.github.com/rest), as far as the Action needs the API.

The code does not rely on the documented form of an answer: users can be deleted (`user: null`), bodies can be empty,
repositories can be renamed (301), and requests can exceed the rate limit.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import requests

from reconciler.engines.http.network import network_for
from reconciler.engines.http.targets import Access
from reconciler.model.errors import ReconcilerError

BODY_LIMIT = 65_536
"""GitHub's bound on a comment and on an issue, in characters."""

_PAGE = 100
_MOST_PAGES = 50
_MOST_HOPS = 5
_TIMEOUT_S = 30
_TRIES = 4
_LONGEST_WAIT_S = 90.0
"""If GitHub asks for a longer wait than this, the request fails."""

_REDIRECTS = (301, 302, 307, 308)
_UNWELL = (500, 502, 503, 504)
_CHUNK_BYTES = 64 * 1024


class ApiError(Exception):
    """GitHub did not do what was asked; the message holds neither the request nor the token.

    `kind` is the status of the answer or the name of the error. `message` is GitHub's text, or "".
    """

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.message = message


class Api:
    """The API of one repository. Every method raises `ApiError`."""

    def __init__(self, env: Mapping[str, str], token: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._base = f"{env.get('GITHUB_API_URL') or 'https://api.github.com'}".rstrip("/")
        self._repository = env.get("GITHUB_REPOSITORY", "")
        self._token = token
        self._sleep = sleep
        self._env = env
        self._session = requests.Session()
        # requests would send credentials from a netrc file; proxies and certificates are set below
        self._session.trust_env = False
        self._login: str | None = None

    def all(self, path: str, entries: str = "", **query: str | int) -> Iterator[dict[str, Any]]:
        """Yield every entry of a list below the repository, over all pages.

        `entries` names the field that holds the list, "" if the document itself is the list.

        Raises `ApiError` if the list is longer than fifty pages.
        """
        first = self._url(path)
        url = f"{first}?{urlencode({**query, 'per_page': _PAGE, 'page': 1})}"
        for page in range(2, _MOST_PAGES + 2):
            answer = self._answer("GET", url)
            document = _json(answer)
            found = document.get(entries) if entries and isinstance(document, dict) else document
            if not isinstance(found, list):
                raise ApiError(f"{path} is no list")
            yield from (entry for entry in found if isinstance(entry, dict))
            following = answer.links.get("next", {}).get("url")
            if following is None and len(found) < _PAGE:
                return
            # Some servers that speak this API send no link to the next page.
            url = urljoin(url, following or f"{first}?{urlencode({**query, 'per_page': _PAGE, 'page': page})}")
        raise ApiError(f"{path} has more than {_MOST_PAGES * _PAGE} entries")

    def get(self, path: str) -> dict[str, Any]:
        """Return one document below the repository."""
        return _document(self._answer("GET", self._url(path)))

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change something below the repository; return the new version."""
        return _document(self._answer(method, self._url(path), body))

    def download(self, path: str, limit_bytes: int) -> bytes:
        """Return the content of a file below the repository.

        GitHub may redirect the download to another host. The token is not sent to that host.

        Raises `ApiError` if the file is longer than `limit_bytes`.
        """
        answer = self._answer("GET", self._url(path), may_leave=True)
        content = bytearray()
        try:
            for chunk in answer.iter_content(_CHUNK_BYTES):
                content += chunk
                if len(content) > limit_bytes:
                    raise ApiError(f"{path} is longer than {limit_bytes} bytes")
        except requests.RequestException as fault:
            raise ApiError(type(fault).__name__) from None
        finally:
            answer.close()
        return bytes(content)

    def is_own(self, entry: Mapping[str, Any]) -> bool:
        """Whether a program, or the owner of the token, wrote a comment or an issue.

        The token of a workflow or of an App may not ask GitHub for the token's owner. An App's comments have the user
        type `Bot`, and only the login of a bot ends with `[bot]`.
        """
        user = entry.get("user")
        if not isinstance(user, dict):
            return False
        login = str(user.get("login", ""))
        return user.get("type") == "Bot" or login.endswith("[bot]") or (login != "" and login == self.login())

    def login(self) -> str:
        """Return the login of the token's owner, "" if the token may not ask for its owner."""
        if self._login is None:
            try:
                self._login = str(_document(self._answer("GET", f"{self._base}/user")).get("login", ""))
            except ApiError:
                self._login = ""
        return self._login

    def _url(self, path: str) -> str:
        return f"{self._base}/repos/{self._repository}/{path}"

    def _answer(
        self, method: str, url: str, body: Mapping[str, Any] | None = None, *, may_leave: bool = False
    ) -> requests.Response:
        """Send a request, follow redirects, wait for rate limits, and return the successful answer."""
        for number in range(1, _TRIES + 1):
            answer = self._follow(method, url, body, may_leave=may_leave)
            if answer.ok:
                return answer
            wait_s = _wait_s(answer, number) if _is_limited(answer) else float(2**number) / 2
            # GitHub may have carried out a POST in spite of a 5xx.
            may_repeat = _is_limited(answer) or (answer.status_code in _UNWELL and method != "POST")
            if not may_repeat or number == _TRIES or wait_s > _LONGEST_WAIT_S:
                raise ApiError(f"HTTP {answer.status_code}", _message(answer))
            answer.close()
            self._sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    def _follow(self, method: str, url: str, body: Mapping[str, Any] | None, *, may_leave: bool) -> requests.Response:
        """Send one request, and send it again unchanged to the new address of a repository that was renamed."""
        for _ in range(_MOST_HOPS):
            answer = self._exchange(method, url, body)
            location = answer.headers.get("Location", "")
            if answer.status_code not in _REDIRECTS or not location:
                return answer
            answer.close()
            url = urljoin(url, location)
            if not self._is_at_home(url) and not may_leave:
                raise ApiError("GitHub sends us to another host")
        raise ApiError("GitHub sends us around in a circle")

    def _exchange(self, method: str, url: str, body: Mapping[str, Any] | None) -> requests.Response:
        """Send one request; the content of the answer is read later. Only GitHub gets the token."""
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if self._is_at_home(url):
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            way = network_for(url, Access(), self._env)
        except ReconcilerError as fault:
            raise ApiError(f"{fault.message}: {fault.hint}") from None
        try:
            return self._session.request(
                method,
                url,
                json=body,
                headers=headers,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
                stream=True,
                proxies={urlsplit(url).scheme: way.proxy.url} if way.proxy else {},
                verify=way.trusted.file or way.trusted.folder or True,
            )
        except (requests.RequestException, OSError) as fault:
            through = f" through {way.proxy.shown}" if way.proxy else ""
            trusting = f", trusting {way.trusted}" if isinstance(fault, requests.exceptions.SSLError) else ""
            raise ApiError(f"{type(fault).__name__}{through}{trusting}") from None

    def _is_at_home(self, url: str) -> bool:
        ours, theirs = urlsplit(self._base), urlsplit(url)
        return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)


def fitted(text: str) -> str:
    """Shorten a body to GitHub's limit; the last line, which identifies the body, is kept."""
    if len(text) <= BODY_LIMIT:
        return text
    last = text.strip().splitlines()[-1]
    gone = "\n\n*…cut: the whole text is in the summary of the workflow run.*\n\n"
    return f"{text[: BODY_LIMIT - len(gone) - len(last)]}{gone}{last}"


def _is_limited(answer: requests.Response) -> bool:
    """Whether an answer reports a rate limit (https://docs.github.com/rest/using-the-rest-api/rate-limits)."""
    if answer.status_code not in (403, 429):
        return False
    spent = answer.headers.get("X-RateLimit-Remaining") == "0"
    return spent or "Retry-After" in answer.headers or "rate limit" in _message(answer).lower()


def _wait_s(answer: requests.Response, number: int) -> float:
    """Return how long GitHub asks us to wait."""
    try:
        if "Retry-After" in answer.headers:
            wait_s = float(answer.headers["Retry-After"])
        else:
            wait_s = float(answer.headers["X-RateLimit-Reset"]) - time.time()
    except (KeyError, ValueError):
        wait_s = 10.0 * 2**number
    return max(0.0, wait_s)


def _message(answer: requests.Response) -> str:
    try:
        document = answer.json()
    except (ValueError, requests.RequestException):
        return ""
    return str(document.get("message", ""))[:200] if isinstance(document, dict) else ""


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except (ValueError, requests.RequestException):
        raise ApiError("the answer is no JSON") from None


def _document(answer: requests.Response) -> dict[str, Any]:
    document = _json(answer)
    return document if isinstance(document, dict) else {}

"""As much of GitHub's REST API as the Action needs, over a real socket, with the oddities of the real API.

A list comes in pages, and a `Link` header names the next page. A deleted user is null, and a body may be null too. A
renamed repository answers with 301, a body that is too long with 422, and a rate limit with 403 and `Retry-After`. The
archive of an artifact lies on another host, which refuses a request with GitHub's token.
"""

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API_TOKEN = "a-made-up-token"
BOT = "github-actions[bot]"
BODY_LIMIT = 65_536


class GitHub(ThreadingHTTPServer):
    """One repository, `team/jobs`.

    `refuse` is the status that answers every change, 0 for none. `writes_as` is the owner of the token. `login` is the
    login that /user returns, "" if the token may not ask. If `renamed` is set, every request below the repository's
    name gets a 301. `limited` is how many of the next requests exceed the rate limit. `requests` lists (method, path).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments: dict[int, dict[str, Any]] = {}
        self.issues: dict[int, dict[str, Any]] = {}
        self.pulls: dict[str, list[dict[str, Any]]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.archives: dict[int, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse = 0
        self.writes_as = BOT
        self.login = ""
        self.renamed = False
        self.limited = 0
        self.store = ""
        """The URL of the host that keeps the archives."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def comment(self, login: str | None, body: str | None) -> int:
        number = len(self.comments) + 1
        self.comments[number] = {"id": number, "user": user(login), "body": body}
        return number

    def keep(self, name: str, head: str, plan: object, **more: object) -> int:
        """Keep a plan as an artifact of a run at this commit."""
        number = len(self.artifacts) + 1
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("plan.json", plan if isinstance(plan, str) else json.dumps(plan))
        self.archives[number] = packed.getvalue()
        run = {"id": number, "head_sha": head, "head_branch": "topic"}
        at = f"2026-01-01T00:00:{number:02}Z"
        self.artifacts.append(
            {"id": number, "name": name, "expired": False, "created_at": at, "workflow_run": run, **more}
        )
        return number

    def merged(self, commit: str, head: str, number: int = 7) -> None:
        """Record that a commit came from a pull request that was merged."""
        self.pulls[commit] = [
            {"number": 3, "merged_at": None, "merge_commit_sha": commit, "head": {"sha": "0" * 40}},
            {"number": number, "merged_at": "2026-01-01T00:00:00Z", "merge_commit_sha": commit, "head": {"sha": head}},
        ]


def user(login: str | None) -> dict[str, str] | None:
    """Return a user as the API shows users; a deleted user is None."""
    return None if login is None else {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"}


class _Handler(BaseHTTPRequestHandler):
    server: GitHub

    def do_GET(self) -> None:
        url = self._begin()
        if url is None:
            return None
        if url == "/user":
            login = self.server.login
            return self._answer(200, {"login": login}) if login else self._answer(403, {"message": "Not accessible"})
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        parts = url.split("/")
        if url.endswith("/zip"):
            location = f"{self.server.store}/{parts[-2]}"
            return self._answer(302, {}, Location=location)
        if url.endswith("/pulls"):
            return self._page(self.server.pulls.get(parts[-2], []), query)
        if url.endswith("/artifacts"):
            named = [one for one in self.server.artifacts if query.get("name") in (None, one["name"])]
            return self._page(named, query, "artifacts")
        if url.endswith("/comments"):
            return self._page(list(self.server.comments.values()), query)
        return self._page([one for one in self.server.issues.values() if one["state"] == query["state"]], query)

    def do_POST(self) -> None:
        url = self._begin()
        body = self._body()
        if url is None or self._refused(body):
            return None
        if url.endswith("/comments"):
            made = self.server.comments[self.server.comment(self.server.writes_as, body["body"])]
            return self._answer(201, made)
        number = len(self.server.issues) + 1
        writer = user(self.server.writes_as)
        self.server.issues[number] = {"number": number, "state": "open", "user": writer, **body}
        return self._answer(201, self.server.issues[number])

    def do_PATCH(self) -> None:
        url = self._begin()
        body = self._body()
        if url is None or self._refused(body):
            return None
        entry = (self.server.comments if "/comments/" in url else self.server.issues)[int(url.rsplit("/", 1)[1])]
        entry.update(body)
        return self._answer(200, entry)

    def log_message(self, format: str, *args: object) -> None:
        return

    def _begin(self) -> str | None:
        """Return the path of a request, None if the request is answered already."""
        assert self.headers["Authorization"] == f"Bearer {API_TOKEN}"
        url = urlsplit(self.path)
        self.server.requests.append((self.command, url.path))
        if self.server.limited:
            self.server.limited -= 1
            self._body()
            self._answer(403, {"message": "You have exceeded a secondary rate limit."}, **{"Retry-After": "0"})
            return None
        if self.server.renamed and url.path.startswith("/repos/team/jobs/"):
            self._body()
            query = f"?{url.query}" if url.query else ""
            place = f"{self.server.url}/repositories/42/{url.path.removeprefix('/repos/team/jobs/')}{query}"
            self._answer(301, {"message": "Moved Permanently", "url": place}, Location=place)
            return None
        return url.path

    def _refused(self, body: Any) -> bool:
        if self.server.refuse:
            self._answer(self.server.refuse, {"message": "Resource not accessible by integration"})
        elif len(body.get("body", "")) > BODY_LIMIT:
            self._answer(422, {"message": "body is too long (maximum is 65536 characters)"})
        else:
            return False
        return True

    def _page(self, found: list[Any], query: dict[str, str], field: str = "") -> None:
        size, page = int(query["per_page"]), int(query.get("page", "1"))
        shown = found[(page - 1) * size : page * size]
        headers = {}
        if len(found) > page * size:
            url = urlsplit(self.path)
            rest = "&".join(f"{name}={value}" for name, value in (query | {"page": str(page + 1)}).items())
            headers["Link"] = f'<{self.server.url}{url.path}?{rest}>; rel="next"'
        self._answer(200, {"total_count": len(found), field: shown} if field else shown, **headers)

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else {}

    def _answer(self, status: int, document: object, **headers: str) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Store(BaseHTTPRequestHandler):
    """The host of the artifacts' archives, which is not GitHub's."""

    def do_GET(self) -> None:
        hub: GitHub = self.server.hub  # type: ignore[attr-defined]
        content = hub.archives.get(int(self.path.strip("/")), b"")
        self.send_response(200 if content and "Authorization" not in self.headers else 403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def served_github() -> Iterator[GitHub]:
    """Yield a repository at GitHub, and the host that keeps its artifacts."""
    with GitHub() as server, ThreadingHTTPServer(("127.0.0.1", 0), _Store) as store:
        store.hub = server  # type: ignore[attr-defined]
        server.store = f"http://127.0.0.1:{store.server_address[1]}"
        threads = [threading.Thread(target=each.serve_forever) for each in (server, store)]
        for thread in threads:
            thread.start()
        yield server
        for each, thread in zip((server, store), threads, strict=True):
            each.shutdown()
            thread.join()

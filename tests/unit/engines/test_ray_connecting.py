"""The way to the head of a Ray cluster: what the manifest says of it, and what the variables of Ray say."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.engines.http.targets import Access
from reconciler.engines.port import CredentialsError, EngineError
from reconciler.engines.ray.connecting import headers_in, secrets_in, way_to_head
from reconciler.engines.ray.settings import Settings


def address(env: Mapping[str, str], named: str = "", *, insecure: bool = False) -> str:
    return way_to_head(Settings("/srv", named, Access(insecure=insecure)), env).address


def test_a_head_on_this_machine_needs_no_setting() -> None:
    assert address({}) == "http://localhost:8265"
    assert address({"RAY_ADDRESS": " "}) == "http://localhost:8265"


def test_the_variable_for_the_dashboard_counts_before_the_one_for_all_of_ray() -> None:
    env = {"RAY_ADDRESS": "http://127.0.0.1:1", "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:2/"}
    assert address(env) == "http://127.0.0.1:2"
    assert address({"RAY_ADDRESS": "http://127.0.0.1:1"}) == "http://127.0.0.1:1"


def test_an_address_of_the_manifest_counts_before_the_variables() -> None:
    assert address({"RAY_ADDRESS": "http://127.0.0.1:1"}, "https://ray.example") == "https://ray.example"


def test_an_address_of_a_variable_may_lack_its_scheme() -> None:
    assert address({"RAY_ADDRESS": "localhost:8265"}) == "http://localhost:8265"
    assert address({"RAY_ADDRESS": "head:8265"}, insecure=True) == "http://head:8265"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("http://head:8265", "is http"),
        ("head:8265", "is http"),
        ("ray://head:10001", "Ray Client"),
        ("anyscale://cluster", "another service"),
        ("auto", "names no address"),
        ("https://user:password@head", "user info"),
        ("https://", "no host"),
    ],
)
def test_an_address_that_can_t_be_used_is_refused_with_its_variable(value: str, why: str) -> None:
    with pytest.raises(EngineError, match=why) as caught:
        address({"RAY_ADDRESS": value})
    assert "RAY_ADDRESS" in caught.value.message + caught.value.hint
    assert "password" not in caught.value.message + caught.value.hint


def test_http_beyond_loopback_needs_the_word_of_the_manifest() -> None:
    assert address({"RAY_ADDRESS": "http://head:8265"}, insecure=True) == "http://head:8265"


def test_without_variables_no_header_is_sent() -> None:
    assert headers_in({"RAY_AUTH_TOKEN": "canary-token"}) == {}


def test_headers_are_a_json_object_of_texts() -> None:
    assert headers_in({"RAY_JOB_HEADERS": '{"X-Zone": "eu"}'}) == {"X-Zone": "eu"}


@pytest.mark.parametrize(
    "value",
    ["canary", '["canary"]', '{"A": 1}', '{"A canary": "b"}', '{"A": "canary\\r\\nB: c"}', '{"Host": "canary"}'],
)
def test_headers_that_can_t_be_sent_are_refused_without_their_values(value: str) -> None:
    with pytest.raises(EngineError, match="RAY_JOB_HEADERS") as caught:
        headers_in({"RAY_JOB_HEADERS": value})
    assert "canary" not in caught.value.message + caught.value.hint
    assert [*secrets_in({"RAY_JOB_HEADERS": value})] or len(value) < 8


def test_a_token_is_sent_where_ray_sends_one() -> None:
    env = {"RAY_AUTH_MODE": "Token", "RAY_AUTH_TOKEN": " canary-token\n"}
    assert headers_in(env) == {"Authorization": "Bearer canary-token"}


def test_a_header_of_the_user_counts_before_the_token() -> None:
    env = {"RAY_AUTH_MODE": "token", "RAY_JOB_HEADERS": json.dumps({"authorization": "Basic eA=="})}
    assert headers_in(env) == {"authorization": "Basic eA=="}


def test_a_token_of_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    for token in ("canary-1", "canary-2"):
        (tmp_path / "token").write_text(f"{token}\n")
        assert headers_in(env) == {"Authorization": f"Bearer {token}"}


def test_the_token_of_the_home_folder_comes_last(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("canary-home")
    env = {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    assert headers_in(env) == {"Authorization": "Bearer canary-home"}
    assert headers_in({**env, "RAY_AUTH_TOKEN": "canary-variable"}) == {"Authorization": "Bearer canary-variable"}


def test_the_token_of_a_service_account_is_taken_where_ray_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("canary-pod")
    monkeypatch.setattr("reconciler.engines.ray.connecting._SERVICE_ACCOUNT_PATHS", (str(tmp_path / "token"),))
    env = {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    assert headers_in({**env, "RAY_ENABLE_K8S_TOKEN_AUTH": "true"}) == {"Authorization": "Bearer canary-pod"}
    with pytest.raises(CredentialsError):
        headers_in(env)


@pytest.mark.parametrize("content", [None, "", "two words", "caf\u00e9"])
def test_a_token_that_can_t_be_had_is_told_with_its_place(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(CredentialsError, match="token") as caught:
        headers_in({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)})
    assert str(path) in caught.value.message


def test_no_token_at_all_says_where_one_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError) as caught:
        headers_in({"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)})
    for place in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token"):
        assert place in caught.value.message


def test_what_a_text_may_not_show() -> None:
    headers = json.dumps({"Authorization": "Bearer canary-bearer", "X-Zone": "eu"})
    env = {"RAY_AUTH_TOKEN": "canary-token", "RAY_JOB_HEADERS": headers}
    assert list(secrets_in(env)) == ["canary-token", "Bearer canary-bearer", "canary-bearer"]

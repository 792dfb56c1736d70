"""From files to a manifest: its values, its faults and their positions."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkout import TESTS
from reconciler.engines.http.endpoints import endpoint_fault, normalize_endpoint
from reconciler.manifest import Manifest
from reconciler.manifest.events import LIBYAML
from reconciler.manifest.files import default_paths, read_sources
from reconciler.manifest.parse import parse
from reconciler.model.errors import ManifestError, ReconcilerError
from reconciler.model.jobs import Desired, Job, OnConfigChange, Target
from reconciler.model.places import Position
from reconciler.usecases.engines import plugin_named

HEAD = "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\n"
BAD = TESTS / "example-files" / "bad-manifests"
FULL = """\
# yaml-language-server: $schema=../schemas/manifest.schema.json
apiVersion: reconciler/v1
target:
  engine: bytenite
defaults:
  config: {taskTimeout: 3600, isTestJob: true}
  labels: {team: media, tier: "1"}
guards:
  maxDelete: 5
  maxRun: 10%
jobs:
  old-report:
    id: 24c87023-ac0a-4516-ad2d-a6d841dc06d3
    state: absent
  nightly-transcode:
    id: 7728ba38-f0a0-4319-ae28-07734448a334
    state: running
    config: {taskTimeout: 600.0, jobTimeout: 7200}
    runToken: "2026-11-21"
    onConfigChange: next-run
    protect: true
    labels: {team: film}
"""


def manifest(*texts: str) -> Manifest:
    return parse([(f"{number}.yaml", text.encode()) for number, text in enumerate(texts, 1)], plugin_named)


def faults(*texts: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        manifest(*texts)
    return [str(fault) for fault in caught.value.diagnostics]


def test_a_manifest_holds_every_job_with_the_defaults_under_it() -> None:
    made = manifest(FULL)
    assert made.target == Target("bytenite", "https://api.bytenite.com/v1/customer")
    assert made.guards == {"maxDelete": 5, "maxRun": "10%"}
    assert list(made.jobs) == ["nightly-transcode", "old-report"]
    assert made.jobs["nightly-transcode"] == Job(
        name="nightly-transcode",
        id="7728ba38-f0a0-4319-ae28-07734448a334",
        state=Desired.RUNNING,
        config={"isTestJob": True, "jobTimeout": 7200, "taskTimeout": 600},
        run_token="2026-11-21",
        on_config_change=OnConfigChange.NEXT_RUN,
        protect=True,
        labels={"team": "film", "tier": "1"},
    )
    assert made.jobs["old-report"] == Job(
        name="old-report",
        id="24c87023-ac0a-4516-ad2d-a6d841dc06d3",
        state=Desired.ABSENT,
        config={"isTestJob": True, "taskTimeout": 3600},
        run_token=None,
        on_config_change=OnConfigChange.RESTART,
        protect=None,
        labels={"team": "media", "tier": "1"},
    )


def test_a_job_knows_where_it_is_declared() -> None:
    made = manifest(FULL, "apiVersion: reconciler/v1\njobs:\n  # mine\n  mine: {state: running}\n")
    assert made.position("nightly-transcode") == Position("1.yaml", 15, 3)
    assert made.position("mine") == Position("2.yaml", 4, 3)
    with pytest.raises(KeyError):
        made.position("theirs")


def test_a_whole_float_counts_as_the_whole_number_that_it_is() -> None:
    made = manifest(HEAD + "guards: {maxRun: 3.0}\njobs: {a: {state: running, config: {taskTimeout: 600.0}}}")
    assert repr(made.jobs["a"].config) == "{'taskTimeout': 600}"
    assert repr(made.guards) == "{'maxRun': 3}"


def test_the_id_is_the_name_where_none_is_given() -> None:
    assert manifest(HEAD + "jobs: {nightly.v1: {state: running}}").jobs["nightly.v1"].id == "nightly.v1"


def test_defaults_and_target_hold_for_all_files() -> None:
    one = "apiVersion: reconciler/v1\njobs: {b: {state: running, config: {jobTimeout: 9}}}"
    two = HEAD + "defaults: {config: {taskTimeout: 5}, onConfigChange: hold}\njobs: {a: {state: aborted}}"
    made = manifest(one, two)
    assert list(made.jobs) == ["a", "b"]
    assert made.jobs["b"].config == {"jobTimeout": 9, "taskTimeout": 5}
    assert made.jobs["b"].on_config_change is OnConfigChange.HOLD


def test_an_embedded_sandbox_has_no_endpoint() -> None:
    assert manifest(HEAD + "jobs: {a: {state: running}}").target == Target("sandbox", "")


def test_an_endpoint_is_held_in_one_form() -> None:
    text = HEAD.replace("sandbox", 'sandbox, endpoint: "http://LOCALHOST:8080/v1/customer/"')
    assert manifest(text + "jobs: {a: {state: running}}").target.address == "http://localhost:8080/v1/customer"


@pytest.mark.parametrize("name", sorted(path.stem for path in BAD.glob("*.yaml")))
def test_a_bad_manifest_is_refused_with_every_fault(name: str) -> None:
    if name == "unclosed" and not LIBYAML:
        pytest.skip("each parser words a syntax error in its own way")
    with pytest.raises(ManifestError) as caught:
        parse([(f"{name}.yaml", (BAD / f"{name}.yaml").read_bytes())], plugin_named)
    printed = "".join(f"{fault}\n" for fault in caught.value.diagnostics)
    assert printed == (BAD / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("until", "fault"),
    [
        ("2026-12-01T08:00:00+05:99", "until: expected a date such as"),
        ("2026-12-01T08:00:00+24:00", "until: expected a date such as"),
        ("2026-12-01T08:00:00", "until: expected a date such as"),
        ("2026-12-01T24:00:00Z", "until: expected a date such as"),
        ("2026-12-01T23:60:00Z", "until: expected a date such as"),
        ("2026-12-01T23:59:60Z", "until: expected a date such as"),
        ("2026-12-01 08:00:00Z", "until: expected a date such as"),
        ("0000-01-01", "until: there is no such time: year 0 is out of range"),
        ("2026-02-29", "until: there is no such time: day is out of range for month"),
    ],
)
def test_a_time_that_there_is_not_is_refused_at_its_place(until: str, fault: str) -> None:
    text = f"{HEAD}jobs: {{a: {{state: running, freeze: {{reason: r, until: '{until}'}}}}}}"
    with pytest.raises(ManifestError) as caught:
        manifest(text)
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.message.startswith(fault)
    assert str(diagnostic.position).startswith("1.yaml:3:")


@pytest.mark.parametrize(
    "until", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-12-01T08:00:00.123456789-00:00"]
)
def test_a_time_at_the_edge_is_a_time(until: str) -> None:
    text = f"{HEAD}jobs: {{a: {{state: running, freeze: {{reason: r, until: '{until}'}}}}}}"
    assert manifest(text).jobs["a"].freeze is not None


def test_what_stands_twice_across_files_is_refused_and_the_other_place_named() -> None:
    one = FULL
    two = """\
apiVersion: reconciler/v1
target: {engine: sandbox}
defaults: {}
guards: {}
jobs:
  old-report: {state: running}
  c: {state: running, id: 24c87023-ac0a-4516-ad2d-a6d841dc06d3}
  d: {state: running, id: c}
  e: {state: running, id: f}
  f: {state: running}
"""
    assert faults(one, two) == [
        '2.yaml:2:1: "target" stands once in the whole manifest: it is already at 1.yaml:3:1',
        '2.yaml:3:1: "defaults" stands once in the whole manifest: it is already at 1.yaml:5:1',
        '2.yaml:4:1: "guards" stands once in the whole manifest: it is already at 1.yaml:8:1',
        '2.yaml:6:3: the job "old-report" is already declared at 1.yaml:12:3: rename or remove one of the two',
        (
            '2.yaml:7:27: the id "24c87023-ac0a-4516-ad2d-a6d841dc06d3" is already that of "old-report" at 1.yaml:13:9'
            ": one engine job is declared once"
        ),
        '2.yaml:10:3: the id "f" is already that of "e" at 2.yaml:9:27: one engine job is declared once',
    ]


def test_faults_stand_in_the_order_of_files_and_lines() -> None:
    one = "jobs:\n  a: {state: running}\n  a: {state: x}\n"
    two = ""
    three = "apiVersion: reconciler/v1\njobs:\n  b: {state: yes, id: a..b}\n  a: {state: running}\n"
    assert faults(one, two, three) == [
        '1.yaml:1:1: "apiVersion" is missing: add apiVersion: reconciler/v1',
        '1.yaml:3:3: "a" is already at 1.yaml:2:3: remove one of the two',
        "2.yaml:1:1: is empty: remove the file, or start it with apiVersion: reconciler/v1",
        "3.yaml:3:14: YAML 1.1 reads yes as true, YAML 1.2 as text: write true, or quote it",
        (
            '3.yaml:3:23: id: expected 1 to 128 letters, digits, ".", "_" and "-", a letter or digit first, no "..", '
            'found the text "a..b"'
        ),
        '3.yaml:4:3: the job "a" is already declared at 1.yaml:2:3: rename or remove one of the two',
    ]


def test_a_field_that_is_misspelt_is_one_fault_and_not_missing_too() -> None:
    assert faults("apiVersion: reconciler/v1\ntaget: {engine: sandbox}\njob: {a: {state: running}}\n") == [
        '1.yaml:2:1: unknown field "taget"; did you mean "target"?',
        '1.yaml:3:1: unknown field "job"; did you mean "jobs"?',
    ]
    assert faults("apiversion: reconciler/v1\ntarget: {engin: sandbox}\njobs: {a: {stat: running}}\n") == [
        '1.yaml:1:1: unknown field "apiversion"; did you mean "apiVersion"?',
        '1.yaml:2:10: unknown field "engin"; did you mean "engine"?',
        '1.yaml:3:12: unknown field "stat"; did you mean "state"?',
    ]


def test_a_missing_field_is_a_fault_beside_an_unknown_one_of_another_name() -> None:
    assert faults("apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs: {a: {confg: {}}}\n") == [
        '1.yaml:3:8: "state" is missing: add state: running, aborted or absent',
        '1.yaml:3:12: unknown field "confg"; did you mean "config"?',
    ]


def test_a_fault_in_the_defaults_is_told_once_and_not_for_every_job() -> None:
    jobs = "".join(f"  j{number}: {{state: running}}\n" for number in range(50))
    assert faults(HEAD + "defaults: {config: {taskTimeout: 0}}\njobs:\n" + jobs) == [
        "1.yaml:3:34: taskTimeout: expected 1 or more, found 0"
    ]


def test_one_faulty_job_among_many_is_found_at_its_place() -> None:
    jobs = "".join(f"  j{number}: {{state: running}}\n" for number in range(500))
    assert faults(HEAD + "jobs:\n" + jobs + "  last: {state: [running]}\n") == [
        "1.yaml:504:17: state: expected running, aborted or absent, found a list"
    ]


def test_nothing_is_said_to_be_missing_where_a_file_could_not_be_read() -> None:
    assert faults("apiVersion: reconciler/v1\njobs: {a: {state: running}}", "target: \xad\x00") == [
        '2.yaml:1:10: the character U+0000 is not allowed: remove it, or write "\\u0000" in double quotes'
    ]


@pytest.mark.parametrize(
    ("job", "valid"),
    [
        ("x: {state: running, config: {taskTimeout: 1, jobTimeout: 1}}", True),
        ("x: {state: running, config: {taskTimeout: 9223372036854775807}}", True),
        ("x: {state: running, config: {taskTimeout: 9223372036854775808}}", False),
        ("x: {state: running, config: {jobTimeout: 9223372036854775807}}", True),
        ("x: {state: running, config: {jobTimeout: 9223372036854775808}}", False),
        ("x: {state: running, config: {jobTimeout: 0}}", False),
        (f"{'x' * 128}: {{state: running}}", True),
        (f"{'x' * 129}: {{state: running, id: x}}", False),
        ('"x\\n": {state: running, id: x}', False),
        ('"x\\u0085y": {state: running, id: x}', False),
        ("東京 ✓: {state: running, id: x}", True),
        (f"x: {{state: running, id: {'x' * 128}}}", True),
        (f"x: {{state: running, id: {'x' * 129}}}", False),
        ('x: {state: running, id: "x\\n"}', False),
        ("x: {state: running, id: -x}", False),
        ("x: {state: running, id: x/y}", False),
        ("x: {state: running, id: é}", False),
        (f"x: {{state: running, runToken: {'x' * 128}}}", True),
        (f"x: {{state: running, runToken: {'x' * 129}}}", False),
        ('x: {state: running, runToken: "x\\n"}', False),
        ('x: {state: running, runToken: "\\x7f"}', False),
    ],
)
def test_bounds_of_names_ids_tokens_and_timeouts(job: str, valid: bool) -> None:
    text = HEAD + f"jobs:\n  {job}\n"
    if valid:
        assert len(manifest(text).jobs) == 1
    else:
        assert len(faults(text)) == 1


@pytest.mark.parametrize(
    ("limit", "valid"),
    [("0", True), ("0%", True), ("100%", True), ("101%", False), ("010%", False), ('"10%\\n"', False), ("'5'", False)],
)
def test_a_guard_is_a_number_or_a_percentage(limit: str, valid: bool) -> None:
    text = HEAD + f"guards: {{maxDelete: {limit}}}\njobs: {{a: {{state: running}}}}\n"
    if valid:
        assert str(manifest(text).guards["maxDelete"]) == limit
    else:
        assert len(faults(text)) == 1


def test_no_files_make_no_manifest() -> None:
    assert [line.partition(":1:1: ")[0] for line in faults()] == ["manifest", "manifest"]


def base(**changes: str) -> str:
    parts = {"job": "state: running, config: {taskTimeout: 5, jobTimeout: 6}", "target": "engine: sandbox"} | changes
    return (
        f"apiVersion: reconciler/v1\ntarget: {{{parts['target']}}}\nguards: {{{parts.get('guards', '')}}}\n"
        f"defaults: {{{parts.get('defaults', '')}}}\njobs:\n  {parts.get('name', 'a')}: {{{parts['job']}}}\n"
    )


@pytest.mark.parametrize(
    "same",
    [
        ["# a comment\n" + base()],
        [base(job="config: {jobTimeout: 6, 'taskTimeout': 5.0}, state: 'running'")],
        [
            base(
                job="state: running, id: a, onConfigChange: restart",
                defaults="config: {jobTimeout: 6, taskTimeout: 0x5}",
            )
        ],
        ["apiVersion: reconciler/v1\ntarget: {engine: sandbox}", base().replace("target: {engine: sandbox}\n", "")],
    ],
    ids=["comment", "order and notation", "defaults written out", "two files"],
)
def test_the_digest_stays_where_the_meaning_stays(same: list[str]) -> None:
    assert manifest(*same).digest == manifest(base()).digest


def test_the_digest_is_the_same_wherever_and_whenever_it_is_made() -> None:
    assert manifest(FULL).digest == "sha256:2e0b45b672e955e3594a67a1d8bf2490cde1ece245a3fdf6338540d8c1c186a9"


def test_any_change_of_meaning_changes_the_digest() -> None:
    job = "state: running, config: {taskTimeout: 5, jobTimeout: 6}"
    variants = [
        base(),
        base(target="engine: bytenite"),
        base(target="engine: sandbox, endpoint: https://example.org"),
        base(guards="maxRun: 5"),
        base(guards="maxRun: 5%"),
        base(guards="maxDelete: 5"),
        base(name="b"),
        base(name="b", job=f"{job}, id: a"),
        base(job=job.replace("running", "aborted")),
        base(job=job.replace("6", "7")),
        base(job=job.replace("jobTimeout: 6", "isTestJob: true")),
        base(job=job.replace("jobTimeout: 6", "isTestJob: false")),
        base(job=f"{job}, runToken: x"),
        base(job=f"{job}, onConfigChange: hold"),
        base(job=f"{job}, onConfigChange: next-run"),
        base(job=f"{job}, protect: true"),
        base(job=f"{job}, labels: {{a: b}}"),
        base(job=f"{job}, labels: {{b: a}}"),
        base(defaults="config: {isTestJob: true}"),
        base() + "  b: {state: absent}\n",
    ]
    assert len({manifest(text).digest for text in variants}) == len(variants)


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 4))
def test_order_and_division_into_files_change_nothing(order: list[int], parts: int) -> None:
    blocks = [HEAD + "defaults: {config: {taskTimeout: 5}}\njobs:\n"]
    blocks += ["apiVersion: reconciler/v1\njobs:\n"] * (parts - 1)
    for place, number in enumerate(order):
        blocks[place % parts] += f"  j{number:02}: {{state: running, config: {{jobTimeout: {number + 1}}}}}\n"
    made = manifest(*blocks)
    assert list(made.jobs) == [f"j{number:02}" for number in range(12)]
    straight = manifest(
        HEAD
        + "defaults: {config: {taskTimeout: 5}}\njobs:\n"
        + "".join(f"  j{n:02}: {{state: running, config: {{jobTimeout: {n + 1}}}}}\n" for n in range(12))
    )
    assert (made.digest, made.jobs) == (straight.digest, straight.jobs)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.bytenite.com/v1/customer",
        "https://example.org",
        "HTTPS://Example.org:8443/",
        "https://10.0.0.1/v1",
        "https://[2001:db8::1]:443/v1",
        "http://localhost:8080/v1/customer",
        "http://127.0.0.1",
        "http://127.255.3.4:1",
        "http://[::1]:65535/x",
    ],
)
def test_a_good_endpoint_has_no_fault(url: str) -> None:
    assert endpoint_fault(url) == ""


HTTP = "is http: use https; http is for localhost, 127.0.0.0/8, [::1], and a target that is `insecure: true`"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "is no URL: write it as https://HOST/PATH"),
        ("api.example.org/v1", "is no URL: write it as https://HOST/PATH"),
        ("ftp://example.org", "has another scheme than https: write it as https://HOST/PATH"),
        ("http://example.org/v1", HTTP),
        ("http://127.0.0.1.example.org", HTTP),
        ("http://127.0.0.256", HTTP),
        ("http://127.example.0.0.1", HTTP),
        ("http://127.1", HTTP),
        ("http://localhost.example.org", HTTP),
        ("http://[::2]", HTTP),
        ("https://", "has no host: write it as https://HOST/PATH"),
        ("https:///v1", "has no host: write it as https://HOST/PATH"),
        ("https://:443/v1", "has no host: write it as https://HOST/PATH"),
        (
            "https://user:pass@example.org/v1",
            'has user info: remove what stands before the "@"; credentials are read from the environment',
        ),
        (
            "http://localhost@example.org",
            'has user info: remove what stands before the "@"; credentials are read from the environment',
        ),
        ("https://example.org/v1?x=1", 'has a query: remove the "?" and what follows it'),
        ("https://example.org/v1#", 'has a fragment: remove the "#" and what follows it'),
        *(
            (
                f"https://example{character}.org",
                "has white space, a control character or a character outside ASCII: remove it, or percent-encode it",
            )
            for character in (" ", "\t", "\n", "\x00", "\x7f", "é", "\u202e")
        ),
        *(
            (f"https://example.org:{port}/", "has no valid port: use a number from 1 to 65535, or leave the colon out")
            for port in ("", "0", "65536", "-1", "+1", "x", "1:2", "0000443")
        ),
        ("https://exa..mple", "has a host that is no host name: use letters, digits, dots and hyphens"),
        ("https://-example", "has a host that is no host name: use letters, digits, dots and hyphens"),
        ("https://a\\b", "has a host that is no host name: use letters, digits, dots and hyphens"),
        ("https://a%2eb", "has a host that is no host name: use letters, digits, dots and hyphens"),
        ("https://[::1", "has no valid IPv6 address between its brackets: write it as https://[ADDRESS]/PATH"),
        ("https://[:::1]", "has no valid IPv6 address between its brackets: write it as https://[ADDRESS]/PATH"),
        ("https://[::1]x", "has no valid IPv6 address between its brackets: write it as https://[ADDRESS]/PATH"),
        ("https://example.org/a\\b", "has a character in its path that a URL can't carry: percent-encode it"),
    ],
)
def test_a_bad_endpoint_is_told_what_would_be_right(url: str, fault: str) -> None:
    assert endpoint_fault(url) == fault


@settings(max_examples=300, deadline=None)
@given(st.text("htps:/[]@.1270ocal\\%?#\t x", max_size=30).map(lambda text: "http://" + text))
def test_http_that_is_let_through_goes_to_loopback(url: str) -> None:
    from urllib.parse import urlsplit

    if not endpoint_fault(url):
        host = urlsplit(url).hostname
        assert host in ("localhost", "::1") or str(host).startswith("127.")


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://example.org/", "https://example.org"),
        ("HTTPS://Example.ORG:443/V1//", "https://example.org/V1"),
        ("http://localhost:80", "http://localhost"),
        ("https://[2001:DB8::1]:8443/x/", "https://[2001:db8::1]:8443/x"),
    ],
)
def test_endpoints_that_mean_the_same_are_equal(url: str, normal: str) -> None:
    assert normalize_endpoint(url) == normal
    assert normalize_endpoint(normal) == normal


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("jobs/b.yaml", "jobs/a.yml", "jobs/a/z.yaml", "jobs/.hidden.yaml", "jobs/.git/x.yaml", "jobs/x.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_folder_stands_for_all_yaml_files_below_it(folder: Path) -> None:
    assert read_sources(["jobs"]) == [
        ("jobs/a/z.yaml", b"jobs/a/z.yaml"),
        ("jobs/a.yml", b"jobs/a.yml"),
        ("jobs/b.yaml", b"jobs/b.yaml"),
    ]


def test_a_file_that_is_named_is_read_whatever_it_is_called(folder: Path) -> None:
    assert read_sources(["jobs/.hidden.yaml", "jobs/x.json"]) == [
        ("jobs/.hidden.yaml", b"jobs/.hidden.yaml"),
        ("jobs/x.json", b"jobs/x.json"),
    ]


def test_a_file_that_is_reached_twice_is_read_once(folder: Path) -> None:
    (folder / "jobs" / "link.yaml").symlink_to("b.yaml")
    (folder / "jobs" / "up").symlink_to("..")
    (folder / ".git").write_text("gitdir: elsewhere\n")
    names = [name for name, _ in read_sources(["./jobs/b.yaml", str(folder / "jobs"), "jobs"])]
    assert names == ["./jobs/b.yaml", f"{folder}/jobs/a/z.yaml", f"{folder}/jobs/a.yml"]


def test_links_in_a_circle_end(folder: Path) -> None:
    for name in ("jobs/here", "jobs/again", "jobs/a/up"):
        (folder / name).symlink_to(folder / "jobs")
    assert len(read_sources(["jobs"])) == 3


def test_a_path_that_matches_nothing_is_an_error(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "loose.yaml").symlink_to("nowhere.yaml")
    for path, message in (
        ("nowhere.yaml", "nowhere.yaml: no such file or folder"),
        ("loose.yaml", "loose.yaml: it is a link to what is not there"),
        ("empty", "empty: no *.yaml or *.yml file in this folder"),
        ("jobs/b.yaml/x", "jobs/b.yaml/x: can't be read: Not a directory"),
    ):
        with pytest.raises(ReconcilerError) as caught:
            read_sources(["jobs", path])
        assert caught.value.message == message
        assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_an_error(folder: Path) -> None:
    (folder / "jobs" / "b.yaml").chmod(0)
    with pytest.raises(ReconcilerError) as caught:
        read_sources(["jobs"])
    assert caught.value.message == "jobs/b.yaml: can't be read: Permission denied"
    assert caught.value.hint == "check its permissions, or name another path"


def test_jobs_yaml_comes_before_the_jobs_folder(folder: Path) -> None:
    assert default_paths(".") == ["jobs"]
    (folder / "jobs.yaml").touch()
    assert default_paths(".") == ["jobs.yaml"]
    assert default_paths(str(folder)) == [f"{folder}/jobs.yaml"]
    with pytest.raises(ReconcilerError) as caught:
        default_paths("jobs")
    assert caught.value.message == "found neither jobs.yaml nor jobs/ here"
    assert caught.value.hint == "run `reconciler init` to start a manifest, or name its path"

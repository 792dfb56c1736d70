"""What the commands of Slurm print, as rows, runs and failures."""

import zlib
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.engines.port import AnswerClass, Marks, Reason, Status
from reconciler.engines.slurm.commands import Answer, Failure, result_of
from reconciler.engines.slurm.importing import words_of_job
from reconciler.engines.slurm.marks import DELETED, Mark, gone, gone_in, mark_in
from reconciler.engines.slurm.reading import Seen
from reconciler.engines.slurm.rows import Row, rows_of_sacct, rows_of_squeue
from reconciler.engines.slurm.runs import Run, runs_of

MARK = Mark("nightly", "nightly-7", Marks("lineage-1", "op-1", "config-1", "", "c0ffee"), "2026-01-02T03:04:05.5Z")
US, RS = "\x1f", "\x1e"


def squeue(*fields: str) -> str:
    return US.join(fields) + RS + "\n"


def row(state: str, **fields: object) -> Row:
    texts = {"reason": "None", "name": "nightly-7", "comment": MARK.comment, "user": "ada", "account": "lab"}
    times = {"submitted_at": "2026-01-02T03:04:05Z", "started_at": "", "ended_at": ""}
    given = {"id": 12, "tasks": "", "partition": "main", "nodes": "", "workdir": "/", **texts, **times, **fields}
    return Row(state=state, **given)  # type: ignore[arg-type]


# --- marks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["op", "a b", "ä,=%\n\"'", "half\ud800", "x" * 5000, "sent", ""])
def test_marks_come_back_from_a_comment_and_from_a_command_line(text: str) -> None:
    mark = MARK._replace(marks=MARK.marks._replace(op=text, commit=text), tasks=40)
    assert mark.fits
    assert mark.comment.isascii()
    assert " " not in mark.comment
    assert mark_in(mark.comment) == mark
    line = f"sbatch --parsable --hold --job-name=nightly-7 --comment={mark.comment} --no-requeue"
    assert mark_in("", line) == mark
    assert mark_in(mark._replace(was_sent=True).comment) == mark._replace(was_sent=True)


@pytest.mark.parametrize(
    "comment",
    ["", "mine", "reconciler:", "reconciler:job=a", "reconciler:z=!!", "reconciler:z=eJw", "mine:run=a"],
)
def test_a_comment_of_somebody_else_has_no_marks(comment: str) -> None:
    assert mark_in(comment) is None


@pytest.mark.parametrize(
    "values",
    ["job=%FF,run=x-1", "job=a,run=a-1,tasks=" + "1" * 5000, "job=a,run=a-1,tasks=²", "job=a,run=a-1,at=%ED%A0"],
)
def test_whatever_a_comment_holds_it_can_be_read(values: str) -> None:
    """Any user of the cluster writes comments, which nobody can take away once the job has ended."""
    packed = urlsafe_b64encode(zlib.compress(values.encode())).decode().rstrip("=")
    for comment in (f"reconciler:{values}", f"reconciler:z={packed}"):
        assert (mark_in(comment) or MARK).tasks == 0
        assert (mark_in("", f"sbatch --comment={comment}") or MARK).tasks == 0


@given(st.text(), st.text())
def test_any_comment_can_be_read(comment: str, line: str) -> None:
    mark_in(f"reconciler:{comment}", f"--comment=reconciler:{line}")
    mark_in(f"reconciler:job=a,run={comment}", f"--comment=reconciler:z={line}")


def test_a_run_that_accounting_has_as_deleted_is_known_by_its_command_line() -> None:
    found = mark_in(DELETED, f"sbatch --comment={MARK.comment}")
    assert found is not None
    assert (found.run_id, found.was_deleted) == ("nightly-7", True)


def test_a_job_stands_for_the_deletion_of_many() -> None:
    comments = list(gone(range(1, 201)))
    assert all(len(comment) < 1024 for comment in comments)
    assert {each for comment in comments for each in gone_in(comment) or ()} == set(range(1, 201))
    assert gone_in(MARK.comment) is None


# --- rows ----------------------------------------------------------------------------------------------------------


def test_a_name_with_line_breaks_and_bars_breaks_no_row() -> None:
    fields = ["12", "N/A", "PENDING", "Priority", "a\nb|c", "(null)", "ada", "lab", "main", *["N/A"] * 3, "", "/x y"]
    other = ["13", "3-5%2", "RUNNING", "None", "z", "hello\n", "ada", "lab", "main", *["2026-01-02T03:04:05"] * 3]
    first, second = rows_of_squeue(squeue(*fields) + squeue(*other, "n[1-2]", "/"))
    assert (first.id, first.tasks, first.name, first.comment, first.workdir) == (12, "", "a\nb|c", "", "/x y")
    assert (second.tasks, second.width, second.started_at) == ("3-5", 3, "2026-01-02T03:04:05Z")
    assert list(rows_of_squeue(squeue(*fields)[:-20])) == [], "a record that was cut is no row"


def test_the_rows_of_accounting_have_their_states_codes_and_tasks() -> None:
    times = ["2026-01-02T03:04:05"] * 3
    fields = ["31_[4-6%2]", "PENDING", "None", "a-1", "", "ada", "lab", "main", times[0], "None", "Unknown", "", "/"]
    ended = ["12", "CANCELLED by 1000", "None", "a-1", "", "ada", "lab", "main", *times, "n1", "/"]
    output = "\n".join(
        "".join(f"{field}{US}" for field in (*each, f"sbatch --comment={MARK.comment}", code, "7", times[0]))
        for each, code in ((fields, "0:0"), (ended, "3:0"))
    )
    first, second = rows_of_sacct(output + "\n")
    assert (first.id, first.tasks, first.state, first.ended_at) == (31, "4-6", "PENDING", "")
    assert (second.state, second.exit_code, second.took_s, second.mark) == ("CANCELLED", 3, 7.0, MARK)


# --- runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "status", "word"),
    [
        ([row("PENDING", reason="Resources")], Status.ACTIVE, "pending"),
        ([row("RUNNING")], Status.ACTIVE, "running"),
        ([row("COMPLETING")], Status.ACTIVE, "completing"),
        ([row("COMPLETED")], Status.COMPLETE, ""),
        ([row("FAILED", exit_code=3)], Status.FAILED, ""),
        ([row("TIMEOUT")], Status.FAILED, "timeout"),
        ([row("OUT_OF_MEMORY")], Status.FAILED, "out of memory"),
        ([row("NODE_FAIL")], Status.FAILED, "node fail"),
        ([row("PREEMPTED")], Status.FAILED, "preempted"),
        ([row("CANCELLED")], Status.ABORTED, ""),
        ([row("CANCELLED", reason="Dependency")], Status.ABORTED, ""),
        ([row("CANCELLED", reason="DependencyNeverSatisfied")], Status.WITHDRAWN, ""),
        ([row("COMPLETED", tasks="1"), row("FAILED", tasks="2")], Status.FAILED, ""),
        ([row("COMPLETED", tasks="1"), row("RUNNING", tasks="2")], Status.ACTIVE, "running"),
        ([row("FAILED", tasks="1"), row("CANCELLED", tasks="2")], Status.ABORTED, ""),
        ([row("RUNNING", is_accounted=True)], Status.UNREADABLE, ""),
        ([row("PENDING", reason="JobHeldUser", comment="")], Status.DRAFT, "held"),
    ],
)
def test_the_status_of_a_run(rows: list[Row], status: Status, word: str) -> None:
    run = Run(rows)
    assert (run.status, run.word) == (status, word)
    assert run.was_released


@pytest.mark.parametrize("state", ["PENDING", "CANCELLED"])
def test_what_was_held_from_its_submission_on_is_no_run(state: str) -> None:
    assert not Run([row(state, reason="JobHeldUser")]).was_released
    sent = MARK._replace(was_sent=True).comment
    assert Run([row(state, reason="JobHeldAdmin", comment=sent)]).was_released, "a person has held it since"
    assert Run([row("CANCELLED", reason="Priority")]).was_released
    assert not Run([row(state, is_accounted=True, was_eligible=False)]).was_released


@pytest.mark.parametrize(
    ("state", "took", "line", "eligible", "reason"),
    [
        ("CANCELLED", "0", "sbatch --dependency=afterok:1", "Unknown", "DependencyNeverSatisfied"),
        ("CANCELLED by 0", "0", "sbatch --dependency=afterok:1", "Unknown", "Dependency"),
        ("CANCELLED", "3", "sbatch --dependency=afterok:1", "Unknown", "Dependency"),
        ("CANCELLED", "0", "sbatch --dependency=afterok:1", "2026-01-02T03:04:05", "Dependency"),
        ("CANCELLED", "0", "sbatch", "Unknown", "Dependency"),
    ],
)
def test_accounting_tells_a_withdrawn_run_by_who_has_cancelled_it(
    state: str, took: str, line: str, eligible: str, reason: str
) -> None:
    fields = ["2", state, "Dependency", "a-1", "", "ada", "lab", "main", *["2026-01-02T03:04:05"] * 3, "", "/"]
    (found,) = rows_of_sacct("".join(f"{field}{US}" for field in (*fields, line, "0:0", took, eligible)) + "\n")
    assert (found.state, found.reason, found.was_released) == ("CANCELLED", reason, True)
    assert found.is_withdrawn == (reason == "DependencyNeverSatisfied")


def test_a_person_who_holds_a_run_leaves_it_active() -> None:
    sent = MARK._replace(was_sent=True).comment
    run = Run([row("PENDING", reason="JobHeldUser", comment=sent)])
    assert (run.status, run.word, run.detail) == (Status.ACTIVE, "held", "job 12 in main: JobHeldUser")


def test_the_tasks_of_an_array_are_counted() -> None:
    comment = MARK._replace(tasks=10).comment
    ended = {"started_at": "2026-01-02T03:00:00Z", "ended_at": "2026-01-02T03:00:07Z", "comment": comment}
    rows = [
        row("COMPLETED", tasks="0", **ended),
        row("FAILED", tasks="1", exit_code=9, **ended),
        row("RUNNING", tasks="2", nodes="n3", comment=comment),
        row("PENDING", tasks="3-9", reason="JobArrayTaskLimit", comment=comment),
    ]
    (run,) = runs_of(rows)
    assert run.detail == "job 12 in main on n3: 1 of 10 tasks complete, 1 failed, 1 running"
    assert run.status is Status.ACTIVE
    (half,) = runs_of(rows[:2])
    assert half.status is Status.UNREADABLE
    assert half.detail == ("job 12: 1 of 10 tasks complete, 1 failed; how the other 8 ended is forgotten (MinJobAge)")


def test_a_failure_says_how_and_a_requeue_changes_no_handle() -> None:
    failed = Run([row("FAILED", exit_code=3, ended_at="2026-01-02T03:04:09Z", started_at="2026-01-02T03:04:07Z")])
    assert failed.detail == "job 12 in main: exit code 3"
    assert (failed.execution.exit_code, failed.execution.took_s) == (3, 2.0)
    again = Run([row("PENDING", submitted_at="2026-01-02T09:00:00Z")])
    assert again.ref == failed.ref == "12@2026-01-02T03:04:05.5Z"
    assert again.observation().submitted_at == failed.observation().submitted_at


def test_two_jobs_of_one_id_are_two() -> None:
    assert len(list(runs_of([row("RUNNING"), row("RUNNING", name="other")]))) == 2


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("err", "failure", "kind", "reason"),
    [
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            Failure.UNREACHABLE,
            AnswerClass.NOT_SENT,
            Reason.OTHER,
        ),
        (
            "scancel: error: Kill job error on job id 1: Socket timed out on send/recv operation",
            Failure.LOST,
            AnswerClass.IN_DOUBT,
            Reason.OTHER,
        ),
        ("Unexpected message received for job 1", Failure.LOST, AnswerClass.IN_DOUBT, Reason.OTHER),
        ("Access/permission denied for job 7", Failure.DENIED, AnswerClass.REJECTED, Reason.NOT_PERMITTED),
        ("Protocol authentication error", Failure.UNTRUSTED, AnswerClass.REJECTED, Reason.NOT_AUTHENTICATED),
        ("Invalid job id specified for job 9", Failure.UNKNOWN_JOB, AnswerClass.REJECTED, Reason.NO_SUCH_JOB),
        ("Job has already finished for job 2", Failure.ENDED, AnswerClass.REJECTED, Reason.NOT_RUNNING),
        (
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            Failure.REFUSED,
            AnswerClass.REJECTED,
            Reason.INVALID,
        ),
    ],
)
def test_what_a_command_complains_of_tells_what_became_of_the_call(
    err: str, failure: Failure, kind: AnswerClass, reason: Reason
) -> None:
    answer = Answer(1, "", err)
    assert answer.failure is failure
    result = result_of(failure, answer.message)
    assert (result.kind, result.reason) == (kind, reason)
    assert "error:" not in result.message


@pytest.mark.parametrize("code", [None, -9])
def test_a_command_that_was_ended_has_left_its_call_in_doubt(code: int | None) -> None:
    assert Answer(code, "", "Invalid job id specified").failure is Failure.LOST
    assert Answer(0, "", "a warning").failure is None


# --- what other users can do ---------------------------------------------------------------------------------------


def test_a_job_with_a_copy_of_the_comment_is_not_the_run() -> None:
    ours, copy = row("RUNNING", id=12), row("COMPLETED", id=13, name="whatever", user="bob")
    for rows in ([ours, copy], [copy, ours]):
        assert [run.id for run in Seen(rows).started("nightly")] == [12]
        assert [run.id for run in Seen(rows).started("nightly", "nightly-7")] == [12]


@pytest.mark.parametrize("comment", [DELETED, *gone([12])])
@pytest.mark.parametrize(("state", "is_there"), [("RUNNING", True), ("PENDING", True), ("COMPLETED", False)])
def test_nobody_can_delete_a_job_that_goes_on(comment: str, state: str, is_there: bool) -> None:
    marked = row(state, submit_line=f"sbatch --comment={MARK.comment}", comment=comment)
    told = row("CANCELLED", id=14, name="reconciler-gone", user="bob", comment=comment)
    rows = [marked] if comment == DELETED else [row(state), told]
    assert bool(Seen(rows).started("nightly")) == is_there


# --- jobs that are taken over --------------------------------------------------------------------------------------

_TOLD = """\
JobId=7 JobName=theirs
   UserId=ada(1000) GroupId=ada(1000) MCS_label=N/A
   Priority=1 Nice=7 Account=lab QOS=normal
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0
   TimeLimit=01:00:00 TimeMin=N/A
   Partition=main AllocNode:Sid=n1:99
   NumNodes=1 NumCPUs=1 NumTasks=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
   Features=a100&nvme DelayBoot=00:00:00
   OverSubscribe=NO Contiguous=0 Licenses=(null) Network=(null)
   Command=/home/ada/s.sh
   WorkDir=/home/ada
   TresPerNode=gres:{gres}
"""


@pytest.mark.parametrize(
    ("gres", "words", "native"),
    [
        ("gpu:2", {"gpu": 2}, {}),
        ("gpu:a100:2", {"gpu": "a100:2"}, {}),
        ("gpu:2,shard:1", {}, {"gres": "gpu:2,shard:1"}),
    ],
)
def test_a_config_has_what_the_controller_tells_of_a_job(
    gres: str, words: dict[str, object], native: dict[str, object]
) -> None:
    told = dict(words_of_job(_TOLD.format(gres=gres), Run([row("RUNNING", comment="")])))
    common = {"partition": "main", "account": "lab", "qos": "normal", "workdir": "/home/ada", "jobTimeout": 3600}
    own = {"constraint": "a100&nvme", "nice": 7, "exclusive": True}
    assert told == {**common, "onDisruption": "continue", **words, "native": {**native, **own}}

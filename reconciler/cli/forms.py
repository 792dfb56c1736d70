"""What a command answers, in the form that was asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.cli.shell import Shell
    from reconciler.diagnostics import Diagnostic
    from reconciler.errors import ReconcilerError
    from reconciler.review import Review
    from reconciler.views.github import Annotation


def show_review(shell: "Shell", review: "Review") -> None:
    """Print a review as Markdown, HTML or annotations; in any other form nothing."""
    review = _placed(review, shell)
    match shell.form:
        case "markdown":
            from reconciler.views import markdown

            shell.terminal.document(markdown.review(review))
        case "html":
            from reconciler.views import html

            shell.terminal.document(html.review(review))
        case "github":
            from reconciler.views import github

            annotate(shell, github.review(review))


def show_fault(shell: "Shell", fault: "ReconcilerError", found: "Sequence[Diagnostic]") -> None:
    """Print what ended a command, where stdout is to hold a document."""
    from reconciler.errors import ManifestError

    match shell.form:
        case "json":
            from reconciler.views import json

            shell.document(json.error(fault, found, fault.more if isinstance(fault, ManifestError) else 0))
        case "junit":
            from reconciler.views import junit

            shell.terminal.document(junit.error(fault))
        case "sarif":
            from reconciler.views import sarif

            shell.document(sarif.error(fault))
        case "github":
            from reconciler.views import github

            annotate(shell, github.diagnostics(found) or [github.error(fault)])
        case "markdown" | "html":
            from reconciler.review import review_error

            show_review(shell, review_error(shell.command.capitalize(), fault, found, state_at=_state_at(shell)))


def _placed(review: "Review", shell: "Shell") -> "Review":
    """The review, the commands in it with what was given of where this one is about."""
    rows = tuple(row._replace(reason=shell.text(row.reason), way_out=shell.text(row.way_out)) for row in review.rows)
    return review._replace(trouble=shell.text(review.trouble), advice=shell.text(review.advice), rows=rows)


def annotate(shell: "Shell", annotations: "Sequence[Annotation]") -> None:
    """Print annotations for GitHub, their files as the repository names them."""
    from reconciler.views import github
    from reconciler.wiring import repository_path

    annotations = [one._replace(message=shell.text(one.message), advice=shell.text(one.advice)) for one in annotations]
    shell.terminal.commands(github.commands(annotations, lambda file: repository_path(file, shell.world.env)))


def _state_at(shell: "Shell") -> str:
    from reconciler.errors import ReconcilerError
    from reconciler.planning import at_home
    from reconciler.wiring import state_name

    try:
        return state_name(at_home(shell.place, shell.world))
    except ReconcilerError:  # there is no manifest to keep a state for, or none that says where
        return ""

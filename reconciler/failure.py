"""What is said of an error that nobody foresaw: of what kind it is, and where it came up."""

from reconciler.threads import is_exhaustion


def said_of(fault: BaseException) -> str:
    """One line, without the error's own words, which may hold anything."""
    if exhausted := is_exhaustion(fault):
        return exhausted
    step = fault.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    where = "" if step is None else f" in {step.tb_frame.f_code.co_name}, line {step.tb_lineno}"
    return f"reconciler itself failed: {type(fault).__name__}{where}; please report it"

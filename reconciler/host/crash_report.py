"""The message for an error that the program did not expect: its kind, and where it was raised."""

from errno import EAGAIN, EMFILE, ENFILE, ENOMEM


def error_line(fault: BaseException) -> str:
    """One line about an error. The error's own text is left out, since it may contain secrets or markup."""
    if exhausted := exhausted_resource(fault):
        return exhausted
    step = fault.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    where = "" if step is None else f" in {step.tb_frame.f_code.co_name}, line {step.tb_lineno}"
    return f"reconciler itself failed: {type(fault).__name__}{where}; please report it"


def exhausted_resource(fault: BaseException) -> str:
    """The resource that this machine has no more of, with advice; "" where the error has another cause."""
    if isinstance(fault, RuntimeError) and "can't start new thread" in str(fault):
        return "no more threads can be had here: raise the limit (ulimit -u), or give a lower --parallelism"
    if isinstance(fault, MemoryError):
        return "no more memory can be had here"
    if isinstance(fault, OSError):
        if fault.errno in (EMFILE, ENFILE):
            return "no more files can be opened here: raise the limit (ulimit -n), or give a lower --parallelism"
        if fault.errno in (EAGAIN, ENOMEM):
            return "no more processes or memory can be had here: raise the limit (ulimit -u)"
    return ""

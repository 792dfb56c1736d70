"""What is said of an error that nobody foresaw: of what kind it is, and where it came up."""

from errno import EAGAIN, EMFILE, ENFILE, ENOMEM


def error_line(fault: BaseException) -> str:
    """One line, without the error's own words, which may hold anything."""
    if exhausted := exhausted_resource(fault):
        return exhausted
    step = fault.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    where = "" if step is None else f" in {step.tb_frame.f_code.co_name}, line {step.tb_lineno}"
    return f"reconciler itself failed: {type(fault).__name__}{where}; please report it"


def exhausted_resource(fault: BaseException) -> str:
    """What this machine has no more of, in words, with what to do; "" where an error is about something else."""
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

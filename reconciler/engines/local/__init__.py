"""The engine `local`: real processes on this machine, without a daemon that has to be installed or started.

**Who takes part.** The *engine* is an object in the command (`engine.py`). A *supervisor* is a process for each run
that executes: it starts the command, keeps its log, enforces its timeouts and records its end (`supervisor.py`). The
*spawner* is one process for a root: it starts the supervisors and holds back what exceeds `target.slots`
(`spawner.py`). A thread may hold a lock at the moment of a fork, so a process with threads must not fork. The spawner
is therefore a program of its own, which is executed anew and never has a second thread.

**Files.** All of them are below the root, which belongs to one user and has the mode 0700:

    root.json               the id of the root, the machine that it is for, and where it was made: the path, and the
                            numbers of the device, the folder and this file; made once
    spawner.lock            locked by the spawner as long as it lives
    spawner.sock            the socket of the spawner
    spawner.log             what a spawner printed when it failed
    spawner.trouble         why no process can be started at the moment
    queue                   exists while a spawner has runs, so a spawner that was killed leaves it
    slots                   byte N is locked by the supervisor of the run that has slot N
    tmp/                    runs that are being prepared
    jobs/JOB/RUN/spec.json  the run: config, marks, time of acceptance
                 lock       locked by the supervisor as long as it lives
                 abort.json an abort was asked for
                 started.json the command is about to be let go
                 ended.json how the run ended
                 script   a script whose first line names its program
                 log, log.1 what the command printed; log.1 is the older part
                 log.removed how many bytes came before them, if not all is kept
                 removed.json the tombstone, once a delete, keepFor or keepRuns has taken the other
                              files away

A JSON file is written under another name, flushed, and renamed; then its folder is flushed. A file is there as a whole
or not at all, and a power loss does not take it away. `spec.json` is flushed before the rename of its folder, and all
folders of the run after it, before the spawner gets the run. A power loss between the two leaves an empty folder at
most, which is no run: the rename of the next call replaces it. The log is not flushed.

**Why no run is started twice.** A run is accepted by the rename of its prepared folder to `jobs/JOB/RUN`. The rename
fails if that folder is there, and the folder stays for ever: a delete leaves the tombstone in it, and so do `keepFor`
and `keepRuns`, whose runs the spawner takes away before it ends. A tombstone answers an observation with the end of its
run, so that no end is forgotten, however few runs are kept. Any number of supervisors may be started for an accepted
run. The first one that gets the lock goes on, the others end. The lock is a lock of fcntl: the kernel takes it back
when its process ends in any way, and names the process that holds it. So no file holds the id of a process, which
another process may have by then. The supervisor ends if `started.json`, `ended.json` or `removed.json` is there. It
forks a child that waits, flushes `started.json`, and lets the child execute the command only then. If `started.json`
can't be flushed, as on a full disk, the child ends without having executed anything.

**What a crash leaves.**

    killed                                      what is found             what it means
    command, before the rename                  nothing                   the call was not carried out
    command, after the rename                   accepted, not started     active, queued; the spawner starts it, for
                                                                          the command had announced it before
    spawner, with a queue; or both              accepted, not started     active, queued; the next command that opens
                                                                          the engine or observes the run starts
                                                                          another spawner
    supervisor, before started.json             accepted, not started     the same
    supervisor, after started.json, before      started, no lock, no end  failed: nobody knows whether the command
      the child is let go                                                   was let go, so it is never let go again
    supervisor, while the command executes      started, no lock, no end  the kernel kills the command with its
                                                                          supervisor. Processes that the command left
                                                                          behind are found by an environment variable:
                                                                          active as long as one of them lives, then
                                                                          failed
    the machine                                 started, another boot id  failed: the machine was restarted
    anything, after abort.json, not started     accepted, aborted         aborted: a supervisor looks for abort.json
                                                                          after it has the lock, and whoever writes
                                                                          abort.json looks for the lock afterwards

**The spawner** is found through the lock and the socket in the root, by any command of the same user. It ends once its
queue is empty, its supervisors have ended and no command is connected. So the queue outlives the command that filled
it, and a supervisor that could not start its run, or was killed before, is followed by another one. A command announces
a run before it accepts the run, and has it started afterwards. If the connection breaks between the two, the spawner
looks whether the run was accepted, and takes it over. The file `queue` is flushed before the first announcement is
answered, so that a power loss leaves no run that waits for nobody. A command gets an answer once the spawner has the
run in its queue; a spawner that ends has an empty queue. So a connection that breaks before the answer is no doubt: the
command connects again, or starts another spawner, and sends the run again. An environment belongs to one call, so a run
that bears another op than its environment is not executed with it. Two spawners that start at one time are told apart
by the lock. Supervisors do not depend on the spawner: they go on if it is killed, and hold their slots themselves.

**Secrets.** `spec.json` has the names of secrets. Their values go from the command through the socket to the spawner,
and with its forks to the child. They are on no disk. If a spawner is lost, the next command reads them again.

**Time.** Timeouts count on the monotonic clock, which no one sets and which stands still while the machine is
suspended, as the command does. A run begins with its first attempt. Times of day are for people; those of one job never
go back, even if the clock of the machine does.

**Limits.** Locks and boot ids are those of one machine, so a root on a network file system is refused, and so is the
root of another machine or another user. A copy of a root has the id of the original and none of its locks. The numbers
in `root.json` tell a copy from a folder that was moved within a file system, and a copy is refused. A copy whose
`root.json` was removed may become a root of its own: a run that has no end on record there belongs to the original, as
the id in its `spec.json` says, and counts as deleted. A root that is removed takes its runs off the record: its spawner
ends, its queue is dropped, and what executes goes on unobserved. On macOS the kernel offers no search by environment,
no death signal and no subreaper: processes that leave the process group of a run are not found there.
"""

"""Stand-ins for Slurm's commands that lose what the real ones ask for, or what they are answered."""

import os
import shutil
import sys
from pathlib import Path

from slurm.cluster import PATH

_PROGRAM = """\
#!{python}
import os, random, subprocess, sys, time
name, real, word, chance = {name!r}, {real!r}, {word!r}, {chance!r}
argv = [real, *sys.argv[1:]]
changes = name != "scontrol" or len(sys.argv) == 1 or sys.argv[1] in ("release", "update")
if not changes or random.random() >= chance:
    os.execv(real, argv)
if word == "denied":
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    os.execv(real, argv)
# The messages are those of slurm_strerror().
if word == "unsent":
    why = "Unable to contact slurm controller (connect failure)"
    if name == "scontrol":  # it tells nothing more of a controller that is down
        why = f"Unexpected message received for job {{sys.argv[-1]}}"
    print(f"{{name}}: error: {{why}}", file=sys.stderr)
    sys.exit(1)
if word == "killed":
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.uniform(0, 0.05))
    process.kill()
    process.wait()
    sys.exit(1)
if word == "late":
    given = sys.stdin.buffer.read()
    if os.fork() == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        time.sleep(random.uniform(0.2, 2))
        subprocess.run(argv, input=given, stdout=nothing, stderr=nothing)
        os._exit(0)
    print(f"{{name}}: error: Socket timed out on send/recv operation", file=sys.stderr)
    sys.exit(1)
done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
if word == "slow":
    time.sleep(0.5)
    sys.stdout.buffer.write(done.stdout)
    sys.stderr.buffer.write(done.stderr)
    sys.exit(done.returncode)
print(f"{{name}}: error: Socket timed out on send/recv operation", file=sys.stderr)
sys.exit(1)
"""

CHANGING = ("sbatch", "scontrol", "scancel")


def wrapped(folder: Path, word: str, chance: float = 1.0) -> str:
    """Write the stand-ins, and return the PATH that finds them first.

    `word` is what they do with a call that changes something, each with a `chance`:

        unsent  the call is not made
        lost    the call is made, and its answer is lost
        slow    the answer is late
        killed  the command is killed in the middle of the call
        denied  the call is made by another user, who may not change this job
        late    the call is made some time after the command has ended
    """
    folder.mkdir()
    for name in CHANGING:
        real = shutil.which(name, path=PATH)
        assert real
        path = folder / name
        path.write_text(_PROGRAM.format(python=sys.executable, name=name, real=real, word=word, chance=chance))
        path.chmod(0o755)
    return f"{folder}{os.pathsep}{PATH}"

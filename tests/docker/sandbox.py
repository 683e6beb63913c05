"""A container without a container engine: what a Dockerfile's commands make and run, in namespaces of their own.

It has what matters of a container for the commands in it: the paths of the image, a root file system that is read-only
when the image runs, one volume and a fresh /tmp, the image's user without any capability, nothing but the image's
environment, and a process number 1. It is not the image: the base is this machine's system and Python, the network this
machine's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.docker.support import ROOT, Dockerfile

PYTHON = Path(sys.base_prefix)
PREFIX = "/opt/clipsmith"
VOLUME = "/var/lib/clipsmith"
SYSTEM_PATH = f"{PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTER = """
set -eu
folder=$1 volume=$2 mode=$3; shift 3
root=$folder/root
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
show() { mkdir -p "$root$2"; mount --rbind "$1" "$root$2"; [ "$3" = rw ] || mount -o "remount,bind,$3" "$root$2"; }
for path in /bin /sbin /lib /lib32 /lib64 /usr /etc /opt/*; do
  if [ -L "$path" ]; then cp -a "$path" "$root$path"
  elif [ -d "$path" ] && [ "$path" != PREFIX ]; then show "$path" "$path" ro; fi
done
case $python in /usr|/usr/*) ;; *) show "$python" "$python" ro ;; esac
show "$folder/prefix" PREFIX "$mode"
[ "$mode" = ro ] || show "$folder/src" /src rw
show "$volume" VOLUME rw
show /dev /dev rw
mkdir -m 1777 "$root/tmp"; mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root/proc"; mount -t proc proc "$root/proc"
[ "$mode" = rw ] || mount -o remount,ro "$root"
exec chroot "$root" "$@"
""".replace("PREFIX", PREFIX).replace("VOLUME", VOLUME)


def possible() -> bool:
    """Whether this process may make namespaces and mounts."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "chroot"))):
        return False
    tried = ["unshare", "--mount", "--pid", "--fork", "mount", "--make-rprivate", "/"]
    return subprocess.run(tried, capture_output=True).returncode == 0


@dataclass(frozen=True)
class Image:
    """What the build stage of a Dockerfile made, in a folder, and how the finished image runs."""

    folder: Path
    dockerfile: Dockerfile

    @property
    def environment(self) -> dict[str, str]:
        """The finished image's environment, as a container starts with it."""
        return {k: v.replace("${PATH}", SYSTEM_PATH) for k, v in self.dockerfile.environment.items()}

    def volume(self, name: str) -> Path:
        """A new volume: a named volume's first mount takes owner and mode of the image's folder."""
        made = self.folder / name
        if not made.exists():
            made.mkdir()
            like = (self.folder / "volume").stat()
            os.chown(made, like.st_uid, like.st_gid)
            made.chmod(like.st_mode)
        return made

    def command(self, words: list[str], volume: str, **environment: str) -> list[str]:
        """The command that runs `words` in a container of this image, with `environment` added to the image's own."""
        user, group = self.dockerfile.final("USER").value.split(":")
        variables = self.environment | environment
        inside = [
            *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"),
            *("--bounding-set=-all", "--inh-caps=-all"),
            *("env", "-i", "-C", self.dockerfile.final("WORKDIR").value),
            *(f"{name}={value}" for name, value in variables.items()),
            *words,
        ]
        return enter(self.folder, self.volume(volume), "ro", inside)

    def run(self, words: list[str], volume: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        limited = ["timeout", "--signal=KILL", "300", *words]  # inside: it ends the command with all it started
        return subprocess.run(self.command(limited, volume, **environment), capture_output=True, text=True)


def enter(folder: Path, volume: Path, mode: str, words: list[str]) -> list[str]:
    """The command that runs `words` in the folder's root, as process number 1; its children end with it."""
    namespaces = ["unshare", "--mount", "--pid", "--fork"]
    script = f"python={PYTHON}\n{_ENTER}"
    return [*namespaces, "sh", "-c", script, "enter", str(folder), str(volume), mode, *words]


def build(dockerfile: Dockerfile, folder: Path, arguments: dict[str, str]) -> Image:
    """Carry out every instruction of a Dockerfile that makes files; `arguments` are the build's.

    Raises: AssertionError with the command's output when one fails.
    """
    for name in ("root", "prefix", "src", "volume"):
        (folder / name).mkdir(parents=True)
    variables: dict[str, str] = {}
    for instruction in dockerfile.instructions:
        if instruction.name == "FROM":
            variables = os.environ | {"PATH": SYSTEM_PATH}
        elif instruction.name == "ARG" and instruction.stage >= 0:
            variables |= {name: arguments.get(name, value) for name, value in instruction.pairs.items()}
        elif instruction.name == "ENV" and instruction.stage == 0:
            variables |= instruction.pairs
        elif instruction.name == "COPY" and instruction.stage == 0:
            _copy(instruction.value.split(), folder / "src")
        elif instruction.name == "RUN":
            _run(instruction.value, folder, variables)
    return Image(folder, dockerfile)


def _copy(words: list[str], target: Path) -> None:
    *sources, _ = words
    for source in sources:
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, target / source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(path, target / source)


def _run(command: str, folder: Path, variables: dict[str, str]) -> None:
    words = ["sh", "-c", f"cd /src 2>/dev/null; {command}"]
    entered = enter(folder, folder / "volume", "rw", words)
    done = subprocess.run(entered, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def signal_first(running: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the container's process number 1, as a container engine does; nothing when it has ended.

    To kill `unshare` would not do: a process that changed its user does not learn that its parent died.
    """
    try:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    except FileNotFoundError:
        return
    for child in children:
        os.kill(int(child), number)

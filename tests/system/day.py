"""A day with clipsmith, played by a program: `python -m tests.system.day [FOLDER]`.

The first run, an own model, wrong inputs, the pages of a real server, two nights, a bad variant, promotion, rollback,
export and serving; all in FOLDER (a temporary one), with a store, a Prefect home and a port of its own. It prints how
long a person waits for each, beside the goals, and takes pictures of the pages where Debian's `chromium` is installed.
It exits with 1 when anything is wrong; a time that misses its goal is told, no more: machines differ.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tasks.data.digits import CLASSES, Digits
from tasks.demo import SNAPSHOT
from tests.conftest import CLIPSMITH, CommandResult
from tests.system.browser import Album, browser_page
from tests.system.servers import Up, run_log, trigger, up, up_environment, wait_for

FIRST_LINE_S, REFUSAL_S, LOOK_S, UNCHANGED_S, UP_S = 2.0, 3.0, 0.7, 8.0, 15.0
WRONG = {
    "a model that there is not": ("optimize", "./no-such-model", "--calibration", "digits"),
    "a folder of data that there is not": ("optimize", "{model}", "--calibration", "./no-such-folder"),
    "no data for one's own model": ("optimize", "{model}"),
    "a mistyped recipe": ("optimize", "{model}", "--calibration", "{photos}", "--recipe", "fp8-compct"),
    "a mistyped target": ("optimize", "{model}", "--calibration", "{photos}", "--targets", "trtx-sm89"),
    "a mistyped key": ("optimize", "{model}", "--config", "{config}"),
    "the same pictures twice": ("optimize", "{model}", "--calibration", "{photos}", "--evaluation", "{photos}"),
    "a release that there is not": ("show", "shop-clip@99"),
    "a mistyped command": ("optimise", "demo"),
    "a file that is no archive": ("unpack", "{config}"),
}
"""Commands with one mistake each; all are refused with exit code 2, and say what to do next."""
SERVED = """
import json, sys
from pathlib import Path
from tasks.runtime import load_encoder
folder, pictures = Path(sys.argv[1]), sorted(Path(sys.argv[2]).rglob("*.png"))
names = json.loads(sys.argv[3])
with load_encoder(folder) as encoder:
    scores = encoder.embed_images(pictures) @ encoder.embed_texts([f"a photo of the digit {name}" for name in names]).T
right = [names[best] == path.parent.name for best, path in zip(scores.argmax(1), pictures, strict=True)]
assert not {"prefect", "modelopt", "flows"} & {*sys.modules}, "a server needs none of these"
print(sum(right) / len(right))
"""


@dataclass
class Day:
    """What was done so far: how long each took, and what was wrong."""

    folder: Path
    environment: dict[str, str]
    times: list[tuple[str, float, float | None]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def part(self, play: Callable[[], None]) -> None:
        """Play a part of the day; the others go on when it fails."""
        print(f"\n{(play.__doc__ or '').strip()}", flush=True)
        try:
            play()
        except Exception as error:  # noqa: BLE001  (whatever it is, the rest of the day is played)
            self.wrong.append(f"{play.__name__}: {type(error).__name__}: {error}")
            print(f"  WRONG: {self.wrong[-1]}", flush=True)

    def took(self, what: str, seconds: float, goal: float | None = None) -> None:
        """Keep a time, in seconds."""
        self.times.append((what, seconds, goal))
        print(f"  {what}: {seconds:.2f} s", flush=True)

    def run(self, *words: object, what: str | None = None, goal: float | None = None, code: int = 0) -> CommandResult:
        """A `clipsmith` command, as a person types it in the folder of the day."""
        begun = time.monotonic()
        done = subprocess.run(
            [str(CLIPSMITH), *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        self.took(what or " ".join(map(str, words[:2])), time.monotonic() - begun, goal)
        said = done.stderr.strip() or done.stdout.strip()
        assert "Traceback" not in done.stderr, said
        assert done.returncode == code, f"exit code {done.returncode} of {words}, expected {code}:\n{said}"
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def table(self) -> str:
        """All times beside their goals."""
        lines = ["| what | seconds | goal |", "|---|---|---|"]
        for what, seconds, goal in self.times:
            beside = "" if goal is None else f"{goal:g}" + (" (missed)" if seconds > goal else "")
            lines.append(f"| {what} | {seconds:.2f} | {beside} |")
        return "\n".join(lines)


class Script:
    """The parts of the day, in their order; the later ones use what the earlier ones have made."""

    def __init__(self, day: Day, running: Up, album: Album | None) -> None:
        self.day, self.running, self.album = day, running, album
        self.model, self.photos, self.holdout = (day.folder / name for name in ("shop-clip", "photos", "holdout"))
        self.variants = Path(day.environment["CLIPSMITH_VARIANTS"])

    def first_run(self) -> None:
        """The first run: the demo, and once more when nothing has changed."""
        begun = time.monotonic()
        with subprocess.Popen(
            [str(CLIPSMITH), "optimize", "demo"],
            cwd=self.day.folder,
            env=self.day.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            self.day.took(
                f"optimize demo, its first line ({first.strip()[:40]}...)", time.monotonic() - begun, FIRST_LINE_S
            )
            said = process.stdout.read()
        self.day.took("optimize demo", time.monotonic() - begun)
        assert process.returncode == 0 and "demo@1" in said, said
        again = self.day.run("optimize", "demo", "--json", what="optimize demo, unchanged", goal=UNCHANGED_S)
        assert (again.document["ref"], again.document["new"]) == ("demo@1", False)
        for words in (
            ("releases",),
            ("show", "demo@1"),
            ("report", "demo@1"),
            ("promote", "demo@1", "--alias", "production"),
        ):
            self.day.run(*words, goal=LOOK_S)

    def own_model(self) -> None:
        """A model of one's own: what it is, what the data is, and its release."""
        shutil.copytree(SNAPSHOT, self.model)
        for place, role in ((self.photos, "calibration"), (self.holdout, "evaluation")):
            digits = Digits(role, 200)
            for index, sample in enumerate(digits.samples):
                folder = place / CLASSES.names[sample.label or 0]
                folder.mkdir(parents=True, exist_ok=True)
                digits.image(index).save(folder / f"{index}.png")
        self.day.run("check", self.model)
        assert self.day.run("data", self.photos, "--json").document
        done = self.day.run(
            "optimize", self.model, "--calibration", self.photos, "--evaluation", self.holdout, "--json"
        )
        assert done.document["ref"] == "shop-clip@1"
        rates = {
            row["metric"]: row["value"] for row in done.document["tables"]["accuracy"] if row["precision"] == "fp8"
        }
        assert rates["top1"] > 0.9

    def wrong_inputs(self) -> None:
        """Wrong inputs: each is told at once, with what to do next."""
        config = self.day.folder / "parameters.yaml"
        config.write_text("calibration: {source: digits, sampels: 64}\n")
        places = {"model": self.model, "photos": self.photos, "config": config}
        for what, words in WRONG.items():
            told = self.day.run(*(word.format(**places) for word in words), what=what, goal=REFUSAL_S, code=2).err
            assert "next: " in told or "see `clipsmith" in told or "Try 'clipsmith" in told, f"{what}: {told}"

    def pages(self) -> None:
        """The pages of the server: the deployments, the form of a run, and a run of the demo with its report."""
        run = trigger(self.running.api_url, "optimize/optimize")
        begun = time.monotonic()
        state = wait_for(self.running.api_url, run, 300)
        self.day.took("optimize from the UI, unchanged", time.monotonic() - begun)
        assert state.is_completed(), run_log(self.running.api_url, run)
        self.look("deployments", f"{self.running.ui_url}/deployments", "nightly")
        self.look("run", f"{self.running.ui_url}/runs/flow-run/{run.id}", "Completed")

    def nights(self) -> None:
        """Two nights: what has changed is made and promoted; the next night finds nothing to do."""
        self.write_variant("shop-search", {"max_top1_drop": 0.2})
        assert "shop-search" in self.day.run("variants", "check", self.variants / "shop-search.yaml").out
        assert self.night("the first night") == "Completed"
        assert self.production() == "shop-clip@2"
        assert self.night("the second night, nothing has changed") == "Completed"
        assert self.production() == "shop-clip@2"

    def bad_variant(self) -> None:
        """A bad variant: the night fails and names it, and production stays where it is."""
        self.write_variant("too-strict", {"min_cosine_worst": 1.0, "max_top1_drop": 0.2})
        assert self.night("a night with a bad variant") == "Failed"
        assert self.day.run("show", "shop-clip@3", "--json").document["status"] == "rejected"
        assert self.production() == "shop-clip@2"
        (self.variants / "too-strict.yaml").unlink()

    def promotion(self) -> None:
        """Promotion and rollback by hand; a rejected release needs a reason."""
        self.day.run("promote", "shop-clip@3", "--alias", "production", code=3, what="promote a rejected release")
        self.day.run("promote", "shop-clip@1", "--alias", "production", "--why", "to compare", goal=LOOK_S)
        self.day.run("rollback", "shop-clip", "--alias", "production", goal=LOOK_S)
        assert self.production() == "shop-clip@2"
        self.day.run("diff", "shop-clip@1", "shop-clip@2")
        self.day.run("verify")

    def serving(self) -> None:
        """Export, and serving without Prefect; the report as a page."""
        self.day.run("export", "shop-clip:production", "served")
        self.day.run("export", "shop-clip:production", "models", "--layout", "triton")
        begun = time.monotonic()
        words = [sys.executable, "-c", SERVED, "served", str(self.holdout), json.dumps(CLASSES.names)]
        done = subprocess.run(
            words, cwd=self.day.folder, env=self.day.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        self.day.took(f"200 pictures served ({float(done.stdout):.1%} right)", time.monotonic() - begun)
        assert float(done.stdout) > 0.9
        report = Path(self.day.run("report", "shop-clip:production").out.strip())
        self.look("report", report.as_uri(), "Gates")

    # --- what the parts share ------------------------------------------------------------------------------

    def look(self, name: str, url: str, text: str) -> None:
        """Open a page, wait for a text on it, and take its picture."""
        if self.album is None:
            return
        with browser_page() as page:
            begun = time.monotonic()
            page.goto(url)
            page.get_by_text(text).first.wait_for()
            self.day.took(f"the page {name}", time.monotonic() - begun)
            self.album.take(page, name)

    def write_variant(self, name: str, gates: dict[str, float]) -> None:
        sources = {"calibration": {"source": str(self.photos)}, "evaluation": {"source": str(self.holdout)}}
        parameters = {"model": str(self.model), "gates": gates, **sources}
        variant = {"schedule": {"cron": "0 2 29 2 *"}, "promote": "production", "parameters": parameters}
        (self.variants / f"{name}.yaml").write_text(yaml.safe_dump(variant))

    def night(self, what: str) -> str:
        """Run the nightly flow on the worker; the name of the state that it ended in."""
        run = trigger(self.running.api_url, "nightly/nightly")
        begun = time.monotonic()
        state = wait_for(self.running.api_url, run, 600)
        self.day.took(what, time.monotonic() - begun)
        self.look(
            what.split(",")[0].replace(" ", "-"), f"{self.running.ui_url}/runs/flow-run/{run.id}", state.name or ""
        )
        return state.name or ""

    def production(self) -> str:
        """Where the alias of the own model points."""
        moves: list[dict[str, Any]] = self.day.run("aliases", "--json", goal=LOOK_S).document["aliases"]
        (ref,) = [move["ref"] for move in moves if (move["model"], move["alias"]) == ("shop-clip", "production")]
        return ref


def main(folder: Path) -> int:
    """Play the day in an empty folder; 0 when nothing was wrong."""
    environment = up_environment(folder)
    day = Day(folder, environment)
    album = None
    if shutil.which("chromium"):
        (folder / "pictures").mkdir()
        album = Album(folder / "pictures")
    with up(folder) as running:
        day.environment = running.environment
        day.took("up", running.ready_s, UP_S)
        script = Script(day, running, album)
        for play in (
            script.first_run,
            script.own_model,
            script.wrong_inputs,
            script.pages,
            script.nights,
            script.bad_variant,
            script.promotion,
            script.serving,
        ):
            day.part(play)
    print(f"\n{day.table()}\n")
    print("no pictures: chromium is not installed" if album is None else f"pictures: {folder / 'pictures'}")
    print("\n".join(f"WRONG {what}" for what in day.wrong) or "nothing was wrong")
    return 1 if day.wrong else 0


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    chosen = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="clipsmith-day-"))
    chosen.mkdir(parents=True, exist_ok=True)
    raise SystemExit(main(chosen))

"""What long files and large folders take: memory and time of the real commands. Run it with `make bench-large`.

Recordings are made of those of the demo, each with a little noise of its own, so that no two are the same. Trainings
last one epoch, from two start offsets: what is measured is what comes before.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.results import RESULTS, machine, write_section
from host_stubs.reading import read_recording
from host_stubs.synth import SAMPLE_RATE, write_demo_recordings

FILES, HOURS, MINUTES, CHANNELS, HIGH_RATE = 10_000, 3.0, 10.0, 8, 192_000
NOISE = 0.001


def sounds(folder: Path) -> Iterator[np.ndarray]:
    """Sounds of the demo, float32 `[samples]`, again and again but never the same."""
    paths, random = write_demo_recordings(folder), np.random.default_rng(0)
    for sound in itertools.cycle([read_recording(path, SAMPLE_RATE) for path in paths]):
        yield (sound + random.normal(0, NOISE, len(sound))).clip(-1, 1).astype(np.float32)


def write_one(path: Path, parts: Iterator[np.ndarray], rate: int, channels: int, seconds: float) -> None:
    """One file of this length, the same in all channels."""
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
        while file.tell() < seconds * rate:
            file.write(np.repeat(next(parts)[:, None], channels, axis=1))


def write_many(folder: Path, parts: Iterator[np.ndarray], count: int) -> None:
    """So many files, a hundred to a folder."""
    for number, sound in enumerate(itertools.islice(parts, count)):
        place = folder / f"{number // 100:03d}"
        place.mkdir(exist_ok=True)
        soundfile.write(place / f"{number:05d}.wav", sound, SAMPLE_RATE, subtype="PCM_16")


def run(*arguments: str | Path) -> tuple[float, float]:
    """Run a command of the host; its seconds, and the most memory that it had, in MB."""
    command = [sys.executable, "-m", "host_stubs.cli", *map(str, arguments)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments[0]} failed: {said}")
    return time.perf_counter() - started, usage.ru_maxrss / 1000


def main() -> None:
    """Make each, train on it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the files, hours and minutes")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md as it is")
    arguments = parser.parse_args()
    files, hours, minutes = round(arguments.share * FILES), arguments.share * HOURS, arguments.share * MINUTES
    cases: dict[str, Callable[[Path, Iterator[np.ndarray]], None]] = {
        "the demo's 32 files": lambda folder, parts: write_many(folder, parts, 32),
        f"{files} files": lambda folder, parts: write_many(folder, parts, files),
        f"one file of {hours:g} hours": lambda folder, parts: write_one(
            folder / "long.wav", parts, SAMPLE_RATE, 1, 3600 * hours
        ),
        f"one file of {minutes:g} minutes, {CHANNELS} channels at {HIGH_RATE // 1000} kHz": lambda folder, parts: (
            write_one(folder / "wide.wav", parts, HIGH_RATE, CHANNELS, 60 * minutes)
        ),
    }
    rows = [["recordings", "on disk", "train", "its most memory", "train-prior", "its most memory"]]
    with tempfile.TemporaryDirectory() as place:
        parts = sounds(Path(place) / "demo")
        for name, make in cases.items():
            folder, model = Path(place) / "recordings", Path(place) / "model.sda"
            folder.mkdir()
            make(folder, parts)
            size = sum(path.stat().st_size for path in folder.rglob("*.wav"))
            trained = run("train", folder, "--output", model, "--epochs", "1", "--overwrite")
            prior = run("train-prior", model, "--epochs", "1", "--start-offsets", "2", "--overwrite")
            figures = [text for seconds, peak in (trained, prior) for text in (f"{seconds:.0f} s", f"{peak:.0f} MB")]
            rows.append([name, f"{size / 1e6:.0f} MB", *figures])
            print(rows[-1], flush=True)
            shutil.rmtree(folder)
    text = (
        "The whole commands, one epoch each, `train-prior` from two start offsets; "
        f"{machine()}, {os.cpu_count()} cores."
    )
    write_section("Long files and large folders", text, rows, None if arguments.print_only else RESULTS)


if __name__ == "__main__":
    main()

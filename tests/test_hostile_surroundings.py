"""What is around a training and not as it should be: signals, terminals, disks, proxies, homes. Real processes all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

import host_stubs
from host_stubs.plugins import Plugins

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals, terminals and mounts of POSIX"),
]

HOST = [sys.executable, "-m", "host_stubs.cli"]
WITHOUT_HOME = 54_321
"""The number of a user whom the system does not know."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five short synthesized recordings."""
    folder = tmp_path_factory.mktemp("surroundings") / "recordings"
    folder.mkdir()
    host_stubs.write_demo_recordings(folder, seed=3, count=5)
    return folder


@pytest.fixture(scope="module")
def model(recordings: Path) -> Path:
    """A model with a codec trained for an epoch and no prior."""
    path = recordings.with_name("small.sda")
    subprocess.run([*HOST, "train", recordings, "-o", path, "--epochs", "1"], check=True, capture_output=True)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a user with a home of their own, on one thread."""
    (tmp_path / "home").mkdir()
    return {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}


def start(*arguments: object, environment: dict[str, str], **how: object) -> subprocess.Popen[str]:
    """Start `host` as a user does."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*HOST, *map(str, arguments)]
    return subprocess.Popen(command, text=True, env=environment, **(pipes | how))  # type: ignore[call-overload,no-any-return]


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read a process's stderr up to a line with `text`."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return
    pytest.fail(f"the command ended without saying {text!r}: {''.join(said)}")


def trained_epochs(path: Path) -> int:
    return int(host_stubs.open_model(path, Plugins()).report["epochs_trained"])


# Signals, and the terminal that is gone


def test_sigterm_keeps_the_best_codec_so_far_though_nobody_reads_what_is_said(
    recordings: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    path = tmp_path / "kept.sda"
    process = start("train", recordings, "-o", path, "--epochs", 500, environment=environment)
    wait_for(process, "best epoch")
    assert process.stderr is not None
    process.stderr.close()
    for _ in range(2):  # as `timeout` sends it
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert 1 <= trained_epochs(path) < 500


def test_closing_the_terminal_keeps_the_best_codec_so_far(
    recordings: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    path, (leader, follower) = tmp_path / "kept.sda", os.openpty()
    process = start(
        "train", recordings, "-o", path, "--epochs", 500, environment=environment | {"TERM": "xterm"},
        stdin=follower, stdout=follower, stderr=follower, preexec_fn=lambda: os.login_tty(follower),
    )  # fmt: skip
    os.close(follower)
    said = b""
    while b"best epoch" not in said:
        said += os.read(leader, 4096)
    os.close(leader)
    process.wait(60)
    assert 1 <= trained_epochs(path) < 500


def test_nohup_is_respected(recordings: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "kept.sda"
    process = start(
        "train", recordings, "-o", path, "--epochs", 3, environment=environment,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_for(process, "best epoch")
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Stopping" not in said
    assert trained_epochs(path) == 3


def test_a_demo_that_is_stopped_keeps_its_codec_ends_and_goes_on_from_there(
    recordings: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(recordings, folder / "recordings")
    process = start("demo", folder, "--epochs", 500, environment=environment)
    wait_for(process, "best epoch")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Run again, it goes on from what is there." in said
    assert "host train-prior" not in said
    assert trained_epochs(folder / "demo.sda") >= 1


STARTS_A_JOB = """
import sys, threading, time
from pathlib import Path
import pluggy

def tell(job):
    while not job.progress.epochs:
        time.sleep(0.05)
    print("an epoch is over", file=sys.stderr, flush=True)

@pluggy.HookimplMarker("sda_host")
def training_tab(page, host, models, jobs):
    from host_stubs.ui.vqvae_job import VqvaeProgress, VqvaeWork

    recordings = Path(sys.argv[sys.argv.index("--datasets") + 1])
    work = VqvaeWork(host, recordings, "small", epochs=500)
    job = jobs.start(models.folder / "small.sda", "training", work, VqvaeProgress())
    threading.Thread(target=tell, args=(job,), daemon=True).start()
"""


def test_the_page_ends_when_its_terminal_is_closed_and_keeps_the_best_codec_so_far(
    recordings: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A plugin starts the job, as the page's button would, for there is no browser here to press it."""
    (tmp_path / "starter.py").write_text(STARTS_A_JOB)
    info = tmp_path / "starter-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: starter\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sda_host]\nstarter = starter\n")
    models = tmp_path / "models"
    models.mkdir()
    process = start(
        "ui", "--port", 0, "--models", models, "--datasets", recordings,
        environment=environment | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    wait_for(process, "an epoch is over")
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Stopping small.sda and keeping the best so far." in said
    assert trained_epochs(models / "small.sda") >= 1
    assert os.listdir(models) == ["small.sda"]


# The streams that a program is born with


def test_without_any_streams_a_codec_is_trained_and_whole(
    recordings: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    path = tmp_path / "quiet.sda"
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    command = [*shell, *HOST, "train", str(recordings), "-o", str(path), "--epochs", "1"]
    assert subprocess.run(command, env=environment, timeout=60).returncode == 0
    assert trained_epochs(path) == 1


# Disks


def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A real file system of this size, in memory."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", folder]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"no file system can be mounted here: {result.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def one_megabyte(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "1m")


@pytest.fixture
def ten_megabytes(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "10m")


def fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_without_room_for_the_result_no_training_begins(
    recordings: Path, model: Path, one_megabyte: Path, environment: dict[str, str]
) -> None:
    for command in (
        ["train", recordings, "-o", one_megabyte / "new.sda"],
        ["train-prior", model, "--output", one_megabyte / "new.sda"],
    ):
        process = start(*command, environment=environment)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1, said
        assert f"The disk of {one_megabyte} has 1.0 MB left, and new.sda takes about" in said
        assert "Training." not in said
        assert os.listdir(one_megabyte) == []


def test_a_codec_that_cannot_be_saved_where_it_was_wanted_is_saved_elsewhere_and_said(
    recordings: Path, ten_megabytes: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    process = start(
        "train", recordings, "-o", ten_megabytes / "new.sda", "--epochs", 500, "--json", environment=environment
    )
    wait_for(process, "best epoch")
    fill(ten_megabytes)
    process.send_signal(signal.SIGINT)
    result, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    saved = tmp_path / "home" / "new.sda"
    document = json.loads(result)
    assert document["path"] == str(saved)
    for place in (said, document["saved_elsewhere"]):
        assert "No space left on device" in place
        assert f"It is saved in {saved} instead." in place
    assert trained_epochs(saved) >= 1


# Proxies


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        {"ALL_PROXY": "socks://[", "https_proxy": "::", "no_proxy": "[::1", "NO_PROXY": ",[", "SSL_CERT_FILE": "/none"},
    ],
)
def test_a_page_on_this_machine_needs_no_proxy(
    tmp_path: Path, environment: dict[str, str], proxies: dict[str, str]
) -> None:
    process = start("ui", "--port", 0, "--models", tmp_path, "--json", environment=environment | proxies)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(json.loads(line)["url"], timeout=20) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said


# All at once


@pytest.fixture
def as_nobody() -> list[str]:
    """What to put before a command so that a user whom the system does not know runs it, who may read everything."""
    capability = "+dac_read_search"  # for the tests may lie in somebody's home
    user = ["--reuid", str(WITHOUT_HOME), "--regid", str(WITHOUT_HOME), "--clear-groups"]
    prefix = ["setpriv", *user, "--inh-caps", capability, "--ambient-caps", capability]
    try:
        tried = subprocess.run([*prefix, sys.executable, "-c", "import host_stubs"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no setpriv here")
    if tried.returncode:
        pytest.skip(f"nobody else can be here: {tried.stderr.strip()}")
    return prefix


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may write in, in one that everybody may look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        work = Path(folder) / "work"
        work.mkdir()
        work.chmod(0o777)
        yield work


def test_the_demo_runs_to_its_end_whatever_is_around_it(open_folder: Path, as_nobody: list[str]) -> None:
    """No home, a proxy that is not there, only ASCII, no stdin, packages that are read-only, no room for a cache."""
    work = open_folder
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "OMP_NUM_THREADS": "1",
    }

    def host(*arguments: str) -> subprocess.CompletedProcess[str]:
        shell = ["sh", "-c", 'exec "$@" <&-', "sh"]
        command = [*as_nobody, *shell, *HOST, *arguments]
        result = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
        return result

    for cache in mounted(work.with_name("cache"), "64k"):
        environment["NUMBA_CACHE_DIR"] = str(cache)
        result = host("demo", "--epochs", "1", "--seconds", "1", "--json")
        assert json.loads(result.stdout)["model"]["has_prior"] is True
        assert soundfile.info(work / "demo" / "new-sound.wav").frames == 48_000
        assert host("info", "demo/demo.sda", "--plot", "picture.png").stderr == "drawn: picture.png\n"
    assert sorted(os.listdir(work)) == ["demo", "picture.png"], "nothing is left where a home would be"

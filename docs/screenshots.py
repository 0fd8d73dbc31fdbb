"""Pictures of the page in each of its states, for README and docs/page.md: `make screenshots` puts them in docs/images.

Everything in them is real: recordings are synthesized, a VQ-VAE and priors are trained, and a browser looks at
the page of a `host ui`. It needs Chromium and takes some minutes.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import host_stubs
from host_stubs.plugins import Plugins

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
LOOKS = {"wide": (1280, "light"), "narrow": (390, "dark")}
"""Pictures of each state: width, and light or dark. Others with arguments such as `1280,dark 390,light`."""
COLOURS = 64
WITHOUT_PLUGINS = (
    "import sys; from host_stubs.cli import build_cli; from host_stubs.plugins import Plugins; "
    "build_cli(Plugins()).main(sys.argv[1:])"
)
SMALL = {"hidden_size": 64, "layers": 1, "heads": 2, "start_offsets": 4}
RECITING = {"hidden_size": 48, "layers": 1, "heads": 2, "start_offsets": 1, "learning_rate": 0.02, "weight_decay": 0}


def main() -> None:
    looks = dict(look.split("=") for look in sys.argv[1:])
    chosen = {
        name: (int(width), scheme) for name, look in looks.items() for width, scheme in [look.split(",")]
    } or LOOKS
    IMAGES.mkdir(exist_ok=True)
    folder = Path(tempfile.gettempdir()) / "music"  # it can be read on some of the pictures
    folder.mkdir()
    try:
        take_pictures(folder, chosen)
    finally:
        shutil.rmtree(folder)


def take_pictures(folder: Path, looks: dict[str, tuple[int, str]]) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        models, recordings = folder / "models", folder / "recordings" / "strings and bells"
        models.mkdir()
        host_stubs.write_demo_recordings(recordings, seed=3, count=8)
        model = trained(recordings)
        with serving(models, recordings.parent, ["-m", "host_stubs.cli"]) as (url, _):

            def pages() -> dict[str, Any]:
                for context in browser.contexts:
                    context.close()
                return {name: opened(browser, url, *look) for name, look in looks.items()}

            every_state(pages, models, model)
        with serving(models, recordings.parent, ["-c", WITHOUT_PLUGINS]) as (url, _):
            for name, look in looks.items():
                page = opened(browser, url, *look)
                page.wait_for_selector("#no-sections")
                picture(page, "without-plugin", name, "#vqvae-folder", "#no-sections")
        browser.close()


def every_state(pages: Callable[[], dict[str, Any]], models: Path, model: host_stubs.Model) -> None:
    """One state after another, each seen by fresh pages: what trains is found by every page."""
    save(model, models / "strings.sda")
    for name, page in pages().items():
        page.wait_for_selector("#prior-train:enabled")
        picture(page, "chosen", name, "#prior-model", "#prior-train")

    train_vqvae(next(iter(pages().values())))
    shown = pages()
    for name, page in shown.items():
        page.wait_for_selector("#vqvae-going .levels")
        picture(page, "vqvae", name, "#vqvae-folder", "#vqvae-cancel")
    page.click("#vqvae-cancel")
    page.wait_for_selector("#vqvae-cancel", state="hidden")

    start(page, "strings", SMALL | {"epochs": 400})
    for name, page in pages().items():
        epochs(page, 12)
        page.wait_for_selector("#prior-player audio")
        page.wait_for_timeout(1500)  # for the waveform
        picture(page, "training", name, "#prior-progress", "#prior-player")
    page.click("#prior-stop")
    page.wait_for_selector("#prior-stop", state="hidden")

    for name, page in pages().items():
        page.wait_for_selector("#listen")
        page.fill("#listen-seed input, #listen-seed textarea", "7")
        page.click("#listen")
        page.wait_for_selector("#listen-sounds a[download]")
        page.wait_for_timeout(1500)
        picture(page, "done", name, "#prior-model", "#prior-chart")
        picture(page, "listen", name, "#listen-title", "#listen-sounds")
        page.click("#prior-train")
        page.wait_for_selector("#prior-replace")
        picture(page, "replace", name, "#prior-train", "#prior-question")

    save(model, models / "reciting.sda")
    start(next(iter(pages().values())), "reciting", RECITING | {"epochs": 5000})
    for name, page in pages().items():
        page.wait_for_selector("#prior-banner-stop")
        page.wait_for_timeout(1000)
        picture(page, "memorizing", name, "#prior-banner", "#prior-chart")
    page.click("#prior-banner-stop")
    page.wait_for_selector("#prior-stop", state="hidden")

    assert model.manifest is not None
    model.manifest = model.manifest.moved_to(Path("/media/disk/strings and bells"))
    save(model, models / "moved.sda")
    for name, page in pages().items():
        page.wait_for_selector("#prior-folder")
        picture(page, "missing", name, "#prior-dataset", "#prior-folder", "#prior-look")


def trained(recordings: Path) -> host_stubs.Model:
    manifest = host_stubs.build_manifest(recordings).manifest
    heard, unheard = ([each.audio for each in manifest.recordings(part, 48_000)] for part in ("train", "held_out"))
    run = host_stubs.train_vqvae(heard, unheard, host_stubs.VqvaeSettings.for_dataset(len(manifest.files), epochs=8))
    return host_stubs.Model("strings", run.codec, manifest, report=run.report)


def save(model: host_stubs.Model, path: Path) -> None:
    host_stubs.save_model(model, path, Plugins())


@contextmanager
def serving(models: Path, datasets: Path, program: list[str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A `host ui`; its address, and its process."""
    command = [sys.executable, *program, "ui", "--port", "0", "--models", models, "--datasets", datasets, "--json"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"], process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def opened(browser: Any, url: str, width: int, scheme: str) -> Any:
    page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page.set_default_timeout(300_000)
    page.goto(url)
    return page


def train_vqvae(page: Any) -> None:
    page.click("#vqvae-folder input")
    page.get_by_role("option").first.click()
    page.click("#vqvae-train")
    page.wait_for_selector("#vqvae-cancel")


def start(page: Any, name: str, knobs: Mapping[str, float]) -> None:
    page.click("#prior-model input")
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function("name => document.querySelector('#prior-card')?.innerText.includes(name + '.sda')", arg=name)
    page.wait_for_selector("#prior-train:enabled")
    page.click("#prior-advanced button")
    for knob, value in knobs.items():
        page.fill(f"#knob-{knob} input", str(value))
        page.wait_for_selector(f"#auto-{knob}")
    page.click("#prior-train")
    page.wait_for_selector("#prior-stop")


def epochs(page: Any, count: int) -> None:
    page.wait_for_function(
        "count => (document.querySelector('#prior-chart polyline.held-out')?.getAttribute('points') ?? '')"
        ".split(' ').length >= count",
        arg=count,
    )


def picture(page: Any, state: str, look: str, first: str, *last: str) -> None:
    """Save what lies between an element and the lowest of some others, over the whole width of the page, as a PNG."""
    offset = page.evaluate("window.scrollY")
    top = max(page.locator(first).bounding_box()["y"] + offset - 16, 0)
    boxes = [page.locator(selector).bounding_box() for selector in last]
    bottom = max(box["y"] + box["height"] for box in boxes) + offset + 16
    area = {"x": 0, "y": top, "width": page.viewport_size["width"], "height": bottom - top}
    shot = page.screenshot(full_page=True, clip=area, animations="disabled")
    path = IMAGES / f"{state}-{look}.png"
    Image.open(BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    if importlib.util.find_spec("gradio") is None or shutil.which("chromium") is None:
        sys.exit("The pictures need Gradio and Chromium.")
    main()

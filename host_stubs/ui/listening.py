"""The section of the training tab in which a model is listened to: new sounds, what they go on from, and the codec."""

from __future__ import annotations

import functools
import secrets
from dataclasses import fields
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.blocks import Block

from host_stubs.audio import peak_normalized
from host_stubs.codec import Codec
from host_stubs.continuation import read_start
from host_stubs.errors import HostError, printable
from host_stubs.generation import MAX_SECONDS, Wish, new_codes, sound_blocks
from host_stubs.host import Host
from host_stubs.playing import MOST_SEED, MOST_TEMPERATURE
from host_stubs.reading import recording_blocks
from host_stubs.ui.drops import Drops
from host_stubs.ui.forms import field, number, texts, whole
from host_stubs.ui.kit import as_html, button, muted, player, said
from host_stubs.ui.live import Live, Steps
from host_stubs.ui.saved import SavedModels
from host_stubs.ui.sounds import BITS, NewSound, NewSounds

MOST_SOUNDS_AT_ONCE = 20
CODEC_SECONDS = 30.0
"""Of a recording, for hearing the codec."""
NOTHING, DROPPED = "nothing: begin anew", "the sound dropped below"


class ListeningPage:
    """What one open page has in this section."""

    def __init__(self) -> None:
        self.problem = ""
        self.page: Any = None
        self.model: Path | None = None
        self.state: Any = None
        self.recordings: dict[str, Path] = {}
        self.recording = NOTHING
        self.dropped: tuple[Path, str] | None = None
        self.doing = ""

    def closed(self) -> None:
        """The page is closed: what was dropped on it goes."""
        if self.dropped is not None:
            self.dropped[0].unlink(missing_ok=True)


class ListeningSection:
    """The section's components and what they do. To be made inside the page's Gradio context."""

    def __init__(self, host: Host, models: SavedModels, live: Live, drops: Drops) -> None:
        self.host, self.models, self.drops = host, models, drops
        self.sounds = NewSounds(live.folder / "sounds")
        with gr.Column(visible=False, elem_id="listening") as self.place:
            self.title = live.html("listen-title")
            with gr.Row():
                self.seconds = field("Seconds", "Left empty: as long as it is.", "listen-seconds", "5")
                self.count = field("How many", f"Up to {MOST_SOUNDS_AT_ONCE}.", "listen-count", "1")
                self.seed = field("Seed", "The same seed, the same sound. Left empty: another one.", "listen-seed")
            with gr.Accordion("How it is drawn", open=False, elem_id="listen-more"), gr.Row():
                self.temperature = field("Temperature", "Below 1 tamer, above 1 bolder.", "listen-temperature", "1")
                share = "Only the likeliest codes of this share; 1: all. Left empty: what suits the model."
                self.top_p = field("Top p", share, "listen-top-p")
                self.top_k = field("Top k", "Only so many of the likeliest codes; 0: all.", "listen-top-k", "0")
                self.max_copy = field("Longest copy, seconds", "Left empty: any.", "listen-max-copy")
                self.kind = field("As", "Such as slower-2. Left empty: as recorded.", "listen-kind")
            self.recording = gr.Dropdown(
                [NOTHING], value=NOTHING, label="Go on from", info="A recording of the model, or one of yours.",
                elem_id="listen-recording",
            )  # fmt: skip
            self.drop = live.html("listen-drop")
            with gr.Row():
                self.listen = gr.Button("Listen", variant="primary", elem_id="listen")
                self.codec = gr.Button("Hear the codec", elem_id="listen-codec")
            self.message = live.html("listen-said")
            self.list = live.html("listen-sounds")
        section = live.section(ListeningPage, self._wanted, self._look)
        form = (self.seconds, self.count, self.temperature, self.top_p, self.top_k, self.max_copy, self.seed, self.kind)
        section.on(self.recording.input, self._choose, self.recording)
        section.on(self.listen.click, self._listen, *form)
        section.on(self.codec.click, self._hear_codec)
        self.keep, self.remove = section.act(self._keep_sound), section.act(self._remove_sound)
        self.take_drop = section.act(self._dropped)

    def _look(self, own: ListeningPage) -> None:
        """Follow the model that is chosen on the page, or else listen to the latest one that makes new sound."""
        able = {saved.path: saved for saved in self.models.all() if saved.has_prior}
        chosen = getattr(own.page, "model", None)
        latest = max(able, key=lambda path: path.stat().st_mtime_ns, default=None)
        model = chosen if chosen in able else None if chosen is not None else latest
        state = None if model is None else self.host.file_state(model)
        if (model, state) != (own.model, own.state):
            if model != own.model:
                own.recording = NOTHING
            own.model, own.state = model, state
            own.recordings = {} if model is None else self._recordings(model)

    def _recordings(self, path: Path) -> dict[str, Path]:
        """Recordings of a model that may be looked at and are there, of the size that they had."""
        model = self.host.open_model(path)
        if model.manifest is None or not self.host.dataset_known(model):
            return {}
        found, bytes_of = model.manifest.paths(), {entry.path: entry.bytes for entry in model.manifest.files}
        return {
            printable(name): place
            for name, place in found.items()
            if place.is_file() and place.stat().st_size == bytes_of[name]
        }

    def _choose(self, own: ListeningPage, recording: str | None) -> None:
        own.recording = recording or NOTHING

    def _listen(self, own: ListeningPage, *form: str | None) -> Steps:
        wish, start = _wish(*form), self._start(own)
        yield from self._do(own, "Drawing new sound.", functools.partial(self._draw, _model(own), wish, start))

    def _hear_codec(self, own: ListeningPage) -> Steps:
        start = self._start(own)
        if start is None:
            raise HostError("Choose a recording to go on from; then you hear it as it is, and through the codec.")
        yield from self._do(own, "Encoding and decoding.", functools.partial(self._through_codec, _model(own), start))

    def _do(self, own: ListeningPage, doing: str, work: Any) -> Steps:
        if own.doing:
            raise HostError("Wait for the sound that is being made.")
        own.doing = doing
        try:
            yield work
        finally:
            own.doing = ""

    def _start(self, own: ListeningPage) -> tuple[Path, str] | None:
        """The file to go on from, and what it is called. Raises HostError where it is not there."""
        if own.recording == NOTHING:
            return None
        if own.recording == DROPPED and own.dropped is not None:
            return own.dropped
        if own.recording not in own.recordings:
            raise HostError("That recording is not there any more. Choose another one.")
        return own.recordings[own.recording], own.recording

    def _draw(self, path: Path, wish: Wish, recording: tuple[Path, str] | None) -> None:
        model = self.host.open_model(path)
        start = None if recording is None else read_start(recording[0], model.codec)
        grids = new_codes(self.host, model, wish, start)
        if grids is None:
            raise HostError("No installed plugin draws what is wanted here.")
        settings = _in_words(wish, "" if recording is None else recording[1])
        for nth, grid in enumerate(grids, start=1):
            if not len(grid):
                raise HostError("It says that there is nothing more to hear. Try another seed, or give seconds.")
            facts = [text for text, _ in self.host.plugins.call("codes_facts", model=model, codes=grid)]
            of = f", {nth} of {wish.count}" if wish.count > 1 else ""
            name = f"{path.stem}-{wish.seed}" + (f"-{nth}" if of else "")
            blocks = sound_blocks(model.codec, start, grid, wish.seconds)
            self.sounds.add(
                path, name, blocks, model.codec.sample_rate, title=f"New sound, seed {wish.seed}{of}",
                settings=settings, facts=facts,
            )  # fmt: skip

    def _through_codec(self, path: Path, recording: tuple[Path, str]) -> None:
        """Put a recording into the list as it was learned from, and below it what the codec makes of it."""
        codec = self.host.open_model(path).codec
        audio, rate = _heard(recording[0], codec), codec.sample_rate
        for title, sound in (("through the codec", codec.decode(codec.encode(audio))), ("as it is", audio)):
            name, length = f"{Path(recording[1]).stem}-{title.replace(' ', '-')}", len(audio)
            label = f"{recording[1]}, {title}"
            self.sounds.add(path, name, [sound[:length]], rate, title=label, settings=f"the codec of {path.name}")

    def _keep_sound(self, own: ListeningPage, number: str, name: str, bits: str) -> None:
        self.sounds.keep(int(number), self.models.folder, name, int(bits))

    def _remove_sound(self, own: ListeningPage, number: str, *fields: str) -> None:
        self.sounds.remove(int(number))

    def _dropped(self, own: ListeningPage, drop: str, name: str) -> None:
        own.closed()
        own.dropped, own.recording = None, NOTHING
        own.dropped, own.recording = (self.drops.taken(drop), printable(name)), DROPPED

    def _wanted(self, own: ListeningPage) -> dict[Block, Any]:
        if own.model is None:
            return {self.place: False}
        choices = [NOTHING, *([DROPPED] if own.dropped else []), *own.recordings]
        return {
            self.place: True,
            self.title: f"<h2>Listen to {as_html(own.model.stem)}</h2>",
            self.recording: {"choices": choices, "value": own.recording},
            self.drop: self._drop_field(own),
            self.listen: {"interactive": not own.doing},
            self.codec: {"interactive": not own.doing},
            self.message: said(own.problem, problem=True) or said(own.doing),
            self.list: {str(sound.number): self._row(sound) for sound in self.sounds.of(own.model)},
        }

    def _drop_field(self, own: ListeningPage) -> str:
        dropped = "" if own.dropped is None else f" <span>{as_html(own.dropped[1])}</span>"
        accept = f'type="file" accept="audio/*,video/*" data-drop="{self.take_drop}"'
        return f'<label class="drop">Drop a sound of yours here, or choose it: <input {accept}></label>{dropped}'

    def _row(self, sound: NewSound) -> str:
        """A sound with what is known of it, and what can be done with it."""
        texts = [sound.settings, *sound.facts, *([] if sound.kept is None else [f"Kept as {sound.kept}."])]
        lines = "".join(muted(text) for text in texts)
        bits = "".join(f"<option value={each}>{each} bit</option>" for each in BITS)
        name = f'<label>Name <input value="{as_html(sound.path.stem)}" size="24"></label>'
        return (
            f'{player(sound.path, sound.title)}{lines}<p class="row-buttons">{name}'
            f'<select aria-label="Bits a sample">{bits}</select>'
            f"{button('Keep', self.keep, sound.number)}{button('Remove', self.remove, sound.number)}</p>"
        )


def _model(own: ListeningPage) -> Path:
    if own.model is None:
        raise HostError("Choose a model that makes new sound first.")
    return own.model


def _heard(recording: Path, codec: Codec) -> np.ndarray:
    """The first `CODEC_SECONDS` of a recording as a codec hears it: mono, at its rate, peak 1."""
    most, blocks = round(CODEC_SECONDS * codec.sample_rate), []
    for block in recording_blocks(recording, codec.sample_rate):
        blocks.append(block)
        if sum(map(len, blocks)) >= most:
            break
    return peak_normalized(np.concatenate([np.zeros(0, np.float32), *blocks])[:most])


def _wish(*form: str | None) -> Wish:
    """What is typed. Raises HostError where something is no number, or out of bounds."""
    seconds, count, temperature, top_p, top_k, max_copy, seed, kind = texts(form)
    return Wish(
        seconds=number(seconds, "Seconds", MAX_SECONDS),
        count=whole(count or "1", "How many", 1, MOST_SOUNDS_AT_ONCE),
        temperature=number(temperature, "Temperature", MOST_TEMPERATURE) or 1.0,
        top_p=number(top_p, "Top p", 1),
        top_k=whole(top_k or "0", "Top k", 0, 10**6),
        max_copy=number(max_copy, "Longest copy", MAX_SECONDS),
        kind=kind or None,
        seed=whole(seed, "Seed", 0, MOST_SEED) if seed else secrets.randbelow(MOST_SEED + 1),
    )


def _in_words(wish: Wish, recording: str) -> str:
    """The settings that are not as they are by themselves."""
    names = {"top_p": "top p", "top_k": "top k", "max_copy": "longest copy", "kind": "as"}
    length = "as long as it is" if wish.seconds is None else f"{wish.seconds:g} s"
    parts = [f"Seed {wish.seed}", length]
    if recording:
        parts.append(f"going on from {recording}")
    for setting in fields(Wish):
        value = getattr(wish, setting.name)
        if setting.name not in ("seed", "seconds", "count") and value != setting.default:
            shown = value if isinstance(value, str) else f"{value:g}"
            parts.append(f"{names.get(setting.name, setting.name)} {shown}")
    return ", ".join(parts)

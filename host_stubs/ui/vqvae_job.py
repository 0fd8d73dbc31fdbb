"""Training a VQ-VAE in the background: from a folder of recordings to a saved model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import host_stubs
from host_stubs.commands.train import SAMPLE_RATE, health_warnings, model_bytes
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.manifest import DatasetManifest
from host_stubs.replace import FileState
from host_stubs.training import EpochDone, VqvaeSettings
from host_stubs.ui.jobs import Job


@dataclasses.dataclass
class VqvaeProgress:
    """How the training of a VQ-VAE goes. One thread writes it, pages read it.

    Attributes:
        account: what became of the files of the folder, lines `(label, text)`; none where all are used as they are.
        notes: sentences about the dataset and, at the end, about the codebooks.
        epochs: one event for each epoch that is over.
    """

    account: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    epochs: list[EpochDone] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class VqvaeWork:
    """What a job of this kind does; call it with the job.

    `epochs` None: until nothing gets better. `found`: what there is of the model file, which may be replaced.
    """

    host: Host
    folder: Path
    name: str
    epochs: int | None = None
    seed: int = 0
    device: str = "auto"
    found: FileState | None = None

    def __call__(self, job: Job) -> str:
        progress: VqvaeProgress = job.progress
        scan = host_stubs.build_manifest(self.folder)
        manifest = scan.manifest
        progress.account, progress.notes = manifest.account.rows(), list(scan.notes)
        settings = VqvaeSettings.for_dataset(
            len(manifest.files), epochs=self.epochs, seed=self.seed, device=self.device
        )
        self.host.check_room(job.path, model_bytes(manifest, settings))

        def on_event(event: EpochDone) -> None:
            progress.epochs.append(event)
            job.go_on()

        try:
            run = host_stubs.train_vqvae(
                self._audio(manifest, "train", job),
                self._audio(manifest, "held_out", job),
                settings,
                sample_rate=SAMPLE_RATE,
                on_event=on_event,
                stop=job.stop_requested,
            )
        except HostError as error:
            job.go_on()
            if job.stop_requested.is_set():  # before there was anything to keep
                return str(error)
            raise
        progress.notes += health_warnings(run.report)
        job.go_on()
        saved = self.host.save_new(
            host_stubs.Model(self.name, run.codec, manifest, report=run.report), job.path, self.found
        )
        stopped = "Stopped; the" if job.stop_requested.is_set() else "The"
        best, epochs = run.report["best_epoch"], run.report["epochs_trained"]
        note = f" {saved.note}" if saved.note else ""
        return f"{stopped} best of {epochs} epochs (epoch {best}) is saved in {saved.path.name}.{note}"

    def _audio(self, manifest: DatasetManifest, part: str, job: Job) -> Iterator[np.ndarray]:
        for recording in manifest.recordings(part, SAMPLE_RATE):
            for piece in recording.pieces():
                job.go_on()
                yield piece

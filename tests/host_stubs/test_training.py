"""Training the VQ-VAE: it learns, can be repeated and stopped, and what goes wrong does not end in a bad codec."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch

from host_stubs.audio import peak_normalized
from host_stubs.commands.display import TrainingDisplay
from host_stubs.errors import HostError
from host_stubs.mel import Mel
from host_stubs.schedule import Schedule
from host_stubs.training import EpochDone, VqvaeRun, VqvaeSettings, seconds_left, train_vqvae

# A small quantizer and few crops a batch: everything here has to be quick.
SMALL = VqvaeSettings(codebook_size=16, levels=2, dim=16, epochs=2, batch_size=2)


def tones(count: int, seconds: float = 1.0) -> list[np.ndarray]:
    """Decaying tones, each of another pitch."""
    times = np.arange(round(seconds * 48_000)) / 48_000
    pitches = 150.0 * 1.4 ** np.arange(count)
    return [(0.5 * np.sin(2 * np.pi * pitch * times) * np.exp(-4 * times)).astype(np.float32) for pitch in pitches]


def trained(
    settings: VqvaeSettings,
    train: Sequence[np.ndarray] = tuple(tones(5)),
    held_out: Sequence[np.ndarray] = tuple(tones(6)[5:]),
    *,
    stop_after: int | None = None,
) -> tuple[VqvaeRun, list[EpochDone]]:
    """A run and its events; `stop_after`: the epoch after which it is told to stop."""
    stop = threading.Event()
    events: list[EpochDone] = []

    def listen(event: EpochDone) -> None:
        events.append(event)
        if event.epoch == stop_after:
            stop.set()

    return train_vqvae(train, held_out, settings, on_event=listen, stop=stop), events


def same(one: VqvaeRun, other: VqvaeRun) -> bool:
    """Whether two runs ended with the same codec, bit for bit."""
    tensors = other.codec.tensors()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in one.codec.tensors().items())


@pytest.fixture(scope="module")
def learned() -> tuple[VqvaeRun, list[EpochDone]]:
    """A run that is long enough to learn something."""
    return trained(dataclasses.replace(SMALL, epochs=8, batch_size=4))


# What a run gives


def test_sound_is_reproduced_better_and_better(learned: tuple[VqvaeRun, list[EpochDone]]) -> None:
    run, events = learned
    assert events[-1].train_loss < 0.5 * events[0].train_loss
    assert run.report["held_out_loss"] < 0.6 * events[0].held_out_loss


def test_the_best_epoch_is_kept(learned: tuple[VqvaeRun, list[EpochDone]]) -> None:
    run, events = learned
    losses = [event.held_out_loss for event in events]
    assert run.report["held_out_loss"] == min(losses)
    assert run.report["best_epoch"] == events[-1].best_epoch == 1 + losses.index(min(losses))
    # The codec, on a recording that fills its frames as a crop does, is as far off as the report says.
    sound = peak_normalized(tones(6)[5])
    wanted = Mel(run.codec.mel_settings).log_mel(torch.from_numpy(sound)[None])[0].numpy()
    wanted = np.pad(wanted, ((0, 0), (0, 96 - wanted.shape[1])))
    off = np.abs(run.codec.decoded_log_mel(run.codec.encode(sound)) - wanted).mean()
    assert off == pytest.approx(run.report["held_out_loss"], rel=1e-3)


def test_each_epoch_tells_how_each_level_is_used(learned: tuple[VqvaeRun, list[EpochDone]]) -> None:
    _, events = learned
    assert [(event.epoch, event.epochs) for event in events] == [(number, 8) for number in range(1, 9)]
    for event in events:
        assert len(event.levels) == 2
        for level in event.levels:
            assert level.dead_codes == round((1 - level.utilization) * 16)
            assert 1 <= level.perplexity <= 16 - level.dead_codes + 1e-9


def test_little_of_a_codebook_lies_idle(learned: tuple[VqvaeRun, list[EpochDone]]) -> None:
    run, _ = learned
    assert all(level["utilization"] >= 0.6 for level in run.report["codebook_health"])


def test_the_report_is_plain_json(learned: tuple[VqvaeRun, list[EpochDone]]) -> None:
    run, _ = learned
    report = json.loads(json.dumps(run.report, allow_nan=False))
    assert report == run.report
    assert report["epochs_trained"] == 8
    assert report["skipped_batches"] == 0
    assert report["settings"]["codebook_size"] == 16


# Settings


@pytest.mark.parametrize(("files", "size"), [(1, 64), (20, 64), (21, 128), (100, 128), (101, 256), (500, 256)])
def test_larger_datasets_get_larger_codebooks(files: int, size: int) -> None:
    assert VqvaeSettings.for_dataset(files).codebook_size == size


def test_what_the_caller_sets_is_what_is_used() -> None:
    settings = VqvaeSettings.for_dataset(30, epochs=7, seed=3, device="cpu")
    assert (settings.epochs, settings.patience, settings.seed, settings.device) == (7, None, 3, "cpu")


@pytest.mark.parametrize("name", ["epochs", "batch_size", "codebook_size", "levels", "dim", "patience"])
def test_settings_below_their_least_value_are_refused(name: str) -> None:
    with pytest.raises(HostError, match=name):
        dataclasses.replace(SMALL, **{name: 0})


@pytest.mark.parametrize("device", ["cuda", "mps", "toaster"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    if {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device):
        pytest.skip(f"this machine has {device}")
    with pytest.raises(HostError, match=device):
        trained(dataclasses.replace(SMALL, device=device))


# Repeating and stopping


def test_a_seed_makes_a_run_repeatable_and_leaves_the_callers_random_numbers_alone() -> None:
    settings = dataclasses.replace(SMALL, device="cpu")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, events = trained(settings)
    assert torch.equal(torch.rand(3), expected)
    second, events_again = trained(settings)
    assert same(first, second)
    assert [event.held_out_loss for event in events] == [event.held_out_loss for event in events_again]
    assert not same(first, trained(dataclasses.replace(settings, seed=1))[0])


def test_a_stopped_run_gives_its_best_epoch_so_far() -> None:
    run, events = trained(dataclasses.replace(SMALL, epochs=50), stop_after=2)
    assert len(events) == run.report["epochs_trained"] == 2
    assert run.report["best_epoch"] in (1, 2)
    assert run.codec.encode(tones(1)[0]).shape == (6, 8, 2)


def test_a_run_that_is_stopped_at_once_says_that_there_is_nothing() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(HostError, match="stopped before"):
        train_vqvae(tones(2), tones(1), SMALL, stop=stop)


def test_training_finishes_early_when_nothing_gets_better_and_says_so() -> None:
    # So low a rate that what the first epoch learned is lost in quantization, and nothing is learned after it.
    run, events = trained(dataclasses.replace(SMALL, epochs=30, patience=2, learning_rate=1e-7))
    first = next(number for number, event in enumerate(events) if event.finishing)
    assert {event.epochs for event in events[:first]} == {30}
    assert {event.epochs for event in events[first:]} == {len(events)}
    assert all(event.finishing for event in events[first:])
    assert len(events) < 15
    assert events[-1].seconds_left == 0
    assert run.report["ended"] == "learned"


def test_without_patience_training_takes_all_its_epochs() -> None:
    run, events = trained(dataclasses.replace(SMALL, epochs=4, patience=None, learning_rate=1e-7))
    assert len(events) == 4
    assert run.report["ended"] == "finished"


@pytest.mark.parametrize(("finishing", "said"), [(False, "; at most 1:05 left"), (True, "; finishing, 1:05 left")])
def test_the_console_says_how_long_at_most_and_when_it_finishes(
    capsys: pytest.CaptureFixture[str], finishing: bool, said: str
) -> None:
    TrainingDisplay()(EpochDone(3, 9, 0.2, 0.3, 3, (), 65.0, finishing))
    assert said in capsys.readouterr().err


def rates(schedule: Schedule, epochs: range) -> list[float]:
    """The share of the learning rate in the middle of each epoch of a hundred batches."""
    return [schedule.rate(100 * epoch + 50, 100) for epoch in epochs]


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    schedule = Schedule(10, None)
    assert [schedule.rate(batch, 100) for batch in (1, 10, 20)] == [0.05, 0.5, 1]
    assert rates(schedule, range(6)) == [1] * 6
    falling = rates(schedule, range(6, 10))
    assert falling == sorted(falling, reverse=True)
    assert falling[0] < 0.7
    assert schedule.rate(1_000, 100) == 0.01


def test_the_rate_falls_where_nothing_got_better_for_long_and_never_rises_again() -> None:
    schedule = Schedule(100, 5)
    for epoch in range(1, 30):
        schedule.epoch_is_done(epoch, min(epoch, 10))
    assert schedule.ended_early
    assert (schedule.finishes_after, schedule.epochs) == (15, 25)
    assert rates(schedule, range(15)) == [1] * 15
    assert max(rates(schedule, range(15, 25))) < 1


def test_as_long_as_it_gets_better_it_goes_on() -> None:
    schedule = Schedule(100, 5)
    for epoch in range(1, 101):
        schedule.epoch_is_done(epoch, epoch)
    assert not schedule.ended_early
    assert schedule.epochs == 100


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_few_epochs_have_a_rate_too(epochs: int) -> None:
    schedule = Schedule(epochs, 1)
    assert all(0 < schedule.rate(batch, 16) <= 1 for batch in range(1, 16 * epochs + 1))


# Bad luck


def test_batches_that_are_not_finite_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = itertools.count()

    def sometimes_broken(parameters: Iterable[torch.nn.Parameter], limit: float) -> torch.Tensor:
        if next(batches) % 8 != 5:
            return clip(parameters, limit)
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, torch.nan)
        return torch.tensor(torch.nan)

    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", sometimes_broken)
    run, _ = trained(SMALL)
    assert run.report["skipped_batches"] == 4  # of two epochs of 16
    assert np.isfinite(run.report["held_out_loss"])
    assert all(tensor.isfinite().all() for tensor in run.codec.tensors().values())


def test_an_epoch_whose_network_is_not_finite_is_never_the_best_not_even_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first weights of the encoder break with the last batch of the first epoch, and are whole again after it."""
    batches, broken = itertools.count(1), []

    def breaking(parameters: Iterable[torch.nn.Parameter], limit: float) -> torch.Tensor:
        first, *others = parameters
        norm = clip([first, *others], limit)
        if next(batches) == 16:
            broken.append((first, first.detach().clone()))
            first.data.fill_(torch.nan)
        return norm

    def mended(event: EpochDone) -> None:
        events.append(event)
        for weights, whole in broken:
            weights.data.copy_(whole)
        broken.clear()

    clip, events = torch.nn.utils.clip_grad_norm_, list[EpochDone]()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", breaking)
    run = train_vqvae(tones(4), tones(2), dataclasses.replace(SMALL, epochs=3), on_event=mended)
    assert [np.isfinite(event.held_out_loss) for event in events] == [False, True, True]
    assert events[0].best_epoch == 0
    assert run.report["best_epoch"] == min(events[1:], key=lambda event: event.held_out_loss).epoch
    assert all(tensor.isfinite().all() for tensor in run.codec.tensors().values())


def test_a_run_that_only_diverges_ends_with_an_error() -> None:
    with pytest.raises(HostError, match="diverged"):
        trained(dataclasses.replace(SMALL, learning_rate=1e30))


def test_sound_that_is_not_finite_is_refused() -> None:
    with pytest.raises(HostError, match="not finite"):
        trained(SMALL, train=[*tones(2), np.full(48_000, np.nan, np.float32)])


@pytest.mark.parametrize("train", [[], [np.zeros(0, np.float32)]])
def test_without_any_sound_there_is_an_error(train: list[np.ndarray]) -> None:
    with pytest.raises(HostError, match="no recording"):
        trained(SMALL, train=train)


@pytest.mark.parametrize("samples", [1, 700, 9_000])
def test_a_single_tiny_recording_is_enough(samples: int) -> None:
    sound = tones(1)[0][:samples] + np.float32(0.1)
    run, _ = trained(dataclasses.replace(SMALL, epochs=1), train=[sound], held_out=[sound[:0]])
    assert run.codec.decode(run.codec.encode(sound)).shape == (-(-samples // 8_192) * 8_192,)


def test_silence_can_be_trained_on() -> None:
    run, _ = trained(SMALL, train=[np.zeros(60_000, np.float32)])
    assert np.isfinite(run.codec.decode(run.codec.encode(np.zeros(60_000, np.float32)))).all()


def test_an_epoch_in_which_the_machine_slept_does_not_change_the_time_left() -> None:
    assert seconds_left([0, 2, 4, 6], 10) == 20
    assert seconds_left([0, 2, 4, 30_000, 30_002], 10) == 20
    assert seconds_left([0, 2, 4, 6, 16, 26, 36], 10) == 100

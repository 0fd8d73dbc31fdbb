"""A team of processes that train one prior: real ones, forked from this one, that meet on the loopback network."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sda_prior_plugin import (
    CodeCorpus,
    EpochDone,
    PriorError,
    PriorSettings,
    TrainingEvent,
    encode_recordings,
    train_prior,
)
from sda_prior_plugin.encoding import Encoding
from sda_prior_plugin.judging import held_out_bits
from sda_prior_plugin.looking import drawn_grids
from sda_prior_plugin.processes import Processes
from sda_prior_plugin.run import Run
from sda_prior_plugin.team import Team, TeamBroken, joined
from tests.sda_prior_plugin.conftest import LevelCodec, Recording, small_settings

MOST_SECONDS = 60.0
LONGEST_END = 10.0
"""Seconds in which a member has to end when another one has."""


class Members:
    """Processes, forked from this one, that are a team; each does some work and leaves what it gives in a file."""

    def __init__(self, folder: Path, size: int, work: Callable[[Team], Any], beside: int = 1) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.places = [folder / f"{port}-{rank}" for rank in range(size)]
        self.numbers = []
        for rank in range(size):
            number = os.fork()
            if not number:
                environment = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(beside)}
                self._work(work, {**environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}, self.places[rank])
            self.numbers.append(number)

    def _work(self, work: Callable[[Team], Any], environment: dict[str, str], place: Path) -> None:
        try:
            with joined(environment) as team:
                given = work(team)
        except BaseException as error:
            given = error if getattr(error, "for_user", False) else RuntimeError(traceback.format_exc())
        try:
            place.write_bytes(pickle.dumps(given))
        finally:
            os._exit(0)

    def given(self) -> list[Any]:
        """What each has given, or the error that it ended with; None of one that was killed."""
        until = time.monotonic() + MOST_SECONDS
        for number in self.numbers:
            while not os.waitpid(number, os.WNOHANG)[0]:
                if time.monotonic() > until:
                    for other in self.numbers:
                        os.kill(other, signal.SIGKILL)
                    raise AssertionError("not all members have ended")
                time.sleep(0.01)
        return [pickle.loads(place.read_bytes()) if place.exists() else None for place in self.places]


@pytest.fixture
def team_of(tmp_path: Path) -> Callable[[int, Callable[[Team], Any]], list[Any]]:
    """What each member of a team of some size gives."""
    return lambda size, work: Members(tmp_path, size, work).given()


TeamOf = Callable[[int, Callable[[Team], Any]], list[Any]]


def test_a_process_that_nobody_has_started_with_others_is_a_team_of_one_and_loads_nothing_for_it() -> None:
    script = """
import sys
from sda_prior_plugin.team import joined
with joined({}) as team:
    assert team.leads and team.share([1, 2, 3]) == [1, 2, 3] and team.gathered("a") == ["a"] and team.told(5) == 5
assert "sda_prior_plugin.processes" not in sys.modules and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("rank", "size", "says"),
    [("two", "2", "no number"), ("2", "2", "from 0 to 1"), ("-1", "2", "from 0 to 1")],
)
def test_an_environment_that_cannot_be_is_said_to_be_wrong(rank: str, size: str, says: str) -> None:
    environment = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    with pytest.raises(PriorError, match=says):
        joined(environment)


@pytest.mark.parametrize(("size", "beside"), [(2, 1), (3, 1), (2, 2), (3, 3)])
def test_a_sum_is_taken_in_the_order_of_the_members_and_has_the_same_bits_for_all(
    tmp_path: Path, size: int, beside: int
) -> None:
    """By messages and by memory that they share, of other tensors than before too, however far ahead a member is."""
    rng = np.random.default_rng(0)
    turns = [rng.normal(size=(size, 7, count)).astype(np.float32) ** 9 for count in (143, 143, 143, 9, 9)]

    def work(team: Team) -> list[np.ndarray]:
        found = []
        for numbers in turns:
            time.sleep(0.05 * (team.rank == 1))
            one, other = team.sum([torch.from_numpy(numbers[team.rank]), torch.ones(())])
            assert other == size
            found.append(one.numpy().copy())
        return found

    for sums in Members(tmp_path, size, work, beside).given():
        for one, numbers in zip(sums, turns, strict=True):
            in_order = numbers[0].copy()
            for more in numbers[1:]:
                in_order += more
            np.testing.assert_array_equal(one, in_order)


@pytest.mark.parametrize(("size", "beside"), [(2, 1), (2, 2), (3, 3)])
def test_what_is_worked_out_is_the_same_whoever_does_it(tmp_path: Path, size: int, beside: int) -> None:
    tensors = [torch.full(shape, float(number)) for number, shape in enumerate(((4, 6), (6, 4), (2,), (3, 3)), 1)]

    def work(team: Team) -> tuple[int, list[list[float]]]:
        done = []

        def squared(some: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            done.extend(tensor.numel() for tensor in some)
            return [(tensor**2).to(torch.bfloat16) for tensor in some]

        found = [team.worked_out(tensors, squared) for _ in range(3)][-1]
        assert [one.shape for one in found] == [one.shape for one in tensors]
        return sum(done) // 3, [one.flatten().tolist() for one in found]

    given = Members(tmp_path, size, work, beside).given()
    assert all(found == [(one**2).flatten().tolist() for one in tensors] for _, found in given)
    most = {(2, 1): 59, (2, 2): 33, (3, 3): 24}[size, beside]
    assert max(done for done, _ in given) == most, "no member does more than it has to"


def test_members_without_memory_that_they_share_send_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(file: int, first: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    assert Members(tmp_path, 2, lambda team: team.sum([torch.ones(3)])[0].tolist(), 2).given() == [[2.0] * 3] * 2


def test_what_members_make_of_their_shares_comes_together_in_order(team_of: TeamOf) -> None:
    def work(team: Team) -> tuple[object, ...]:
        squares = [number**2 for number in team.share(range(7))]
        word = team.told("the leader's" if team.leads else "another's")
        return team.shared_out(squares, 7), word, team.collected(team.rank), team.gathered(team.rank * [team.rank])

    gathered = [[], [1], [2, 2]]
    leader, *others = team_of(3, work)
    assert leader == ([0, 1, 4, 9, 16, 25, 36], "the leader's", [0, 1, 2], gathered)
    assert others == [([0, 1, 4, 9, 16, 25, 36], "the leader's", None, gathered)] * 2


def test_a_stop_of_one_is_a_stop_of_all_at_the_same_sum(team_of: TeamOf) -> None:
    def work(team: Team) -> int:
        stop = threading.Event()
        team.follow(stop)
        for count in range(1000):
            if team.stopping:
                assert stop.wait(MOST_SECONDS)
                return count
            if team.rank == 1 and count == 3:
                stop.set()
            team.sum([torch.ones(3)])
        return -1

    assert team_of(3, work) == [4, 4, 4]


def test_the_others_end_with_the_sentence_of_a_member_that_fails(team_of: TeamOf) -> None:
    def work(team: Team) -> None:
        if team.rank == 1:
            raise PriorError("take-7.wav cannot be read.")
        team.gathered(None)

    first, failed, last = team_of(3, work)
    assert type(failed) is PriorError
    for other in (first, last):
        assert isinstance(other, TeamBroken)
        assert not other.first
        assert "take-7.wav cannot be read." in str(other)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_waits_for_a_member_that_is_gone(tmp_path: Path, how: signal.Signals, rank: int) -> None:
    def work(team: Team) -> float:
        team.gathered(None)
        begun = time.monotonic()
        if team.rank == rank:
            os.kill(os.getpid(), how)
        with pytest.raises(TeamBroken, match="together or not at all"):
            team.gathered(None)
        return time.monotonic() - begun

    members = Members(tmp_path, 2, work)
    other = 1 - rank
    os.waitpid(members.numbers[other], 0)
    os.kill(members.numbers[rank], signal.SIGKILL)
    os.waitpid(members.numbers[rank], 0)
    assert pickle.loads(members.places[other].read_bytes()) < LONGEST_END


trains_in_forks = pytest.mark.skipif(
    torch.cuda.is_available(), reason="autograd, once used beside a GPU, does not work in processes forked from there"
)


def trained(corpus: CodeCorpus, settings: PriorSettings, team: Team) -> tuple[dict[str, np.ndarray], float]:
    """The weights and the held-out perplexity of the prior that a member gets."""
    run = train_prior(corpus, settings, team=team)
    return {name: weights.numpy() for name, weights in run.prior.weights.items()}, run.report.final_perplexity


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    for name, weights in one.items():
        np.testing.assert_array_equal(other[name], weights)


@trains_in_forks
@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_a_prior_has_the_same_bits_for_all_members_every_time_and_is_close_to_that_of_one_process(
    team_of: TeamOf, corpus: CodeCorpus, architecture: str
) -> None:
    settings = small_settings(corpus, architecture=architecture, epochs=2)
    alone = train_prior(corpus, settings, team=Team())
    for size in (4, 2):
        first, *others = team_of(size, lambda team: trained(corpus, settings, team))
        for other in others:
            assert_same(first[0], other[0])
        assert first[1] == pytest.approx(alone.report.final_perplexity, rel=0.01)
    assert_same(first[0], team_of(2, lambda team: trained(corpus, settings, team))[1][0])


@trains_in_forks
def test_a_batch_of_fewer_windows_than_members_is_learned_all_the_same(team_of: TeamOf, corpus: CodeCorpus) -> None:
    settings = small_settings(corpus, batch_size=1, epochs=1)
    alone = train_prior(corpus, settings, team=Team()).report.final_perplexity
    assert team_of(2, lambda team: trained(corpus, settings, team))[0][1] == pytest.approx(alone, rel=0.01)


@trains_in_forks
def test_a_team_that_goes_on_from_a_state_comes_to_the_prior_of_the_unbroken_one(
    team_of: TeamOf, corpus: CodeCorpus
) -> None:
    settings = small_settings(corpus, epochs=3, dropout=0.2)

    def unbroken(team: Team) -> tuple[dict[str, np.ndarray], bytes]:
        states = []

        def on_event(event: TrainingEvent) -> None:
            if isinstance(event, EpochDone) and event.epoch == 1:
                states.append(pickle.dumps(event.state()))

        run = train_prior(corpus, settings, on_event=on_event, team=team)
        return {name: weights.numpy() for name, weights in run.prior.weights.items()}, b"".join(states)

    (whole, state), (_, none) = team_of(2, unbroken)
    assert not none  # the leader alone is told, and so has it

    def resumed(team: Team) -> dict[str, np.ndarray]:
        broken_off = pickle.loads(state) if team.leads else None
        run = train_prior(corpus, settings, resume_from=broken_off, team=team)
        return {name: weights.numpy() for name, weights in run.prior.weights.items()}

    for member in team_of(2, resumed):
        assert_same(whole, member)


def test_what_weights_are_judged_by_is_the_same_for_every_number_of_members(
    team_of: TeamOf, corpus: CodeCorpus
) -> None:
    def judged(team: Team) -> tuple[np.ndarray, list[np.ndarray]]:
        torch.manual_seed(0)
        run = Run(corpus, small_settings(corpus, batch_size=4), torch.device("cpu"), team=team)
        bits = held_out_bits(run.average, corpus, run.judged, run.context, 4, run.dtype, team)
        return bits, drawn_grids(run, 5, 1.0, 0)

    alone, grids = judged(Team())
    for bits, drawn in team_of(3, judged):
        np.testing.assert_array_equal(bits, alone)
        for one, other in zip(drawn, grids, strict=True):
            np.testing.assert_array_equal(one, other)


def test_processes_that_would_not_compute_the_same_are_no_team(team_of: TeamOf, corpus: CodeCorpus) -> None:
    def work(team: Team) -> None:
        torch.set_num_threads(1 + team.rank)
        # too small for a second thread to be begun, which in a fork may never be
        train_prior(corpus, small_settings(corpus, hidden_size=8), team=team)

    for error in team_of(2, work):
        assert "Process 2 of 2 has other threads than the first one (2, not 1)" in str(error)


def test_each_recording_is_encoded_by_one_member_and_none_has_much_more_to_do(team_of: TeamOf) -> None:
    codec, rng = LevelCodec(), np.random.default_rng(0)
    sounds = [Recording(f"{number}", rng.uniform(0, 1, 40 * (1 + number)).astype(np.float32)) for number in range(9)]
    alone = encode_recordings(codec, sounds[:7], sounds[7:], start_offsets=4, copies=True)

    def work(team: Team) -> tuple[list[int], CodeCorpus | None]:
        encoding = Encoding(codec, sounds[:7], sounds[7:], 4, copies=True)
        mine = encoding.share(team)
        parts = team.collected(encoding.grids(mine))
        found = None if parts is None else encoding.corpus({one: part[one] for part in parts for one in part})
        return mine, found

    (first, corpus), (second, none), (third, _) = team_of(3, work)
    assert sorted(first + second + third) == list(range(9))
    assert none is None
    assert corpus is not None
    assert corpus.train.names == alone.train.names
    np.testing.assert_array_equal(corpus.train.codes, alone.train.codes)
    np.testing.assert_array_equal(corpus.train.copies, alone.train.copies)
    np.testing.assert_array_equal(corpus.held_out.codes, alone.held_out.codes)


def test_a_process_can_be_in_one_team_after_another(team_of: TeamOf) -> None:
    def work(team: Team) -> list[int]:
        assert isinstance(team, Processes)
        place = team.place
        with Processes(replace(place, hosted=True)) as again:  # while the first team's board is there
            return again.gathered(team.rank)

    assert team_of(2, work) == [[0, 1], [0, 1]]

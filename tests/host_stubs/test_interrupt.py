"""What ends a training gently, and what ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from host_stubs import interrupt
from host_stubs.interrupt import Stop, stop_on_interrupt

if not hasattr(signal, "SIGHUP"):
    pytest.skip("signals of POSIX", allow_module_level=True)

EACH = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(number) for number in EACH]
    yield
    assert [signal.getsignal(number) for number in EACH] == before


@pytest.mark.parametrize("number", EACH)
def test_the_first_signal_sets_the_event_and_says_so(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with stop_on_interrupt() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        assert stop.exit_code == 128 + number
    assert "Stopping as soon as possible" in capfd.readouterr().err


@pytest.mark.parametrize("first", EACH)
def test_a_second_ctrl_c_ends_at_once(first: signal.Signals) -> None:
    with stop_on_interrupt():
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_ends_at_once_but_for_one_that_comes_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with stop_on_interrupt() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        monkeypatch.setattr(interrupt, "MEANT_ONCE", -1.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_terminal_that_is_closed_twice_is_closed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "MEANT_ONCE", -1.0)
    with stop_on_interrupt() as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        assert stop.is_set()


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_interrupt() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_block_in_another_one_has_its_event() -> None:
    with stop_on_interrupt() as outer:
        with stop_on_interrupt() as inner:
            signal.raise_signal(signal.SIGINT)
        assert outer is inner
        assert isinstance(outer, Stop)
        assert outer.is_set()

"""What an open page is sent, by Gradio's events and by the pulse, without a browser."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from host_stubs.host import Host
from host_stubs.plugins import Plugins
from host_stubs.ui import Jobs, SavedModels

gr = pytest.importorskip("gradio", reason="the page needs Gradio")

from sda_prior_plugin.edge.tab.sent import Sent  # noqa: E402

from sda_prior_plugin.edge.tab.page import PriorPage  # noqa: E402
from sda_prior_plugin.edge.tab.section import OpenPage, PriorSection  # noqa: E402


@pytest.fixture
def section(tmp_path: Path) -> PriorSection:
    """A section over a folder without models."""
    host = Host(Plugins())
    with gr.Blocks(analytics_enabled=False) as page:
        return PriorSection(page, host, SavedModels(tmp_path, host), Jobs())


@pytest.fixture
def there(section: PriorSection, tmp_path: Path) -> OpenPage:
    """A page of it that has been sent all that there is."""
    host = Host(Plugins())
    there = OpenPage(PriorPage(host, SavedModels(tmp_path, host), Jobs()))
    section.open_pages[there.name] = there
    there.sent.news(section.wanted(there))
    return there


def test_nothing_is_sent_twice(section: PriorSection, there: OpenPage) -> None:
    assert section.news_for(there.name, False, None) == ({}, False)
    assert there.sent.news(section.wanted(there)) == {}


def test_what_changes_is_news_until_it_is_sent(section: PriorSection, there: OpenPage) -> None:
    there.page.problem = "It rains."
    assert section.news_for(there.name, False, None) == ({}, True)
    news = there.sent.news(section.wanted(there))
    assert "It rains." in news[section.message]["value"]
    assert section.news_for(there.name, False, None) == ({}, False)


def test_a_page_that_is_not_known_is_told_to_ask_for_all(section: PriorSection) -> None:
    assert section.news_for("of another server", False, None) == ({}, True)


def test_each_page_has_a_name_of_its_own_and_is_forgotten_with_it(section: PriorSection, there: OpenPage) -> None:
    another = copy.deepcopy(there)
    assert another.name != there.name
    section.open_pages[another.name] = another
    name = another.name
    del another
    assert name not in section.open_pages


def test_the_pulse_brings_new_contents_of_what_is_visible_and_again_if_they_were_lost() -> None:
    sent, shown = Sent(), gr.HTML(render=False)
    assert sent.values({shown: {"value": "one", "visible": True}}) == {}
    sent.news({shown: {"value": "one", "visible": True}})
    assert sent.values({shown: {"value": "two", "visible": True}}) == {shown: "two"}
    assert sent.values({shown: {"value": "two", "visible": True}}) == {}
    sent.lost([shown])
    assert sent.values({shown: {"value": "two", "visible": True}}) == {shown: "two"}


def test_a_model_that_is_chosen_shows_its_card_at_once(section: PriorSection, there: OpenPage, tmp_path: Path) -> None:
    for name in ("one.sda", "two.sda"):
        (tmp_path / name).write_bytes(b"")
    there.page.choose(str(tmp_path / "one.sda"))
    there.sent.news(section.wanted(there))
    moved, _ = section.news_for(there.name, False, str(tmp_path / "two.sda"))
    assert moved.keys() == {"prior-card"}
    assert "two.sda is empty" in moved["prior-card"]
    assert section.news_for(there.name, False, str(tmp_path / "two.sda")) == ({}, False)

"""The knobs, their checks, and the defaults that scale with the dataset."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest

from sda_prior_plugin import KNOBS, CodeCorpus, PriorError, PriorSettings, read_tiers
from sda_prior_plugin.kinds import copies_of_each
from sda_prior_plugin.schedule import MOST_PARTS, epochs_per_round, variants_heard, visits_per_round
from sda_prior_plugin.settings import HOST_CODES_PER_SECOND, LIMITS, choose_tier


def settings(**given: object) -> PriorSettings:
    """The defaults for 50 recordings of 2 s."""
    return PriorSettings.for_size(file_count=50, train_seconds=[2.0] * 40, given=given)  # type: ignore[arg-type]


def test_the_knobs_are_the_fields_of_the_settings() -> None:
    assert [knob.name for knob in KNOBS] == [field.name for field in dataclasses.fields(PriorSettings)]


def test_the_four_main_knobs_come_first() -> None:
    assert [knob.name for knob in KNOBS if knob.main] == ["epochs", "hidden_size", "layers", "heads"]


def test_every_tier_gives_valid_settings() -> None:
    for files, seconds in ((5, 1.5), (46, 1.7), (500, 8.0), (500, 600.0)):
        PriorSettings.for_size(file_count=files, train_seconds=[seconds] * files)


@pytest.mark.parametrize(
    ("files", "minutes", "name"),
    [
        (12, 2, "small"),
        (13, 99, "medium"),
        (100, 99, "medium"),
        (101, 99, "large"),
        (300, 2, "medium"),
        (300, 0.1, "small"),
    ],
)
def test_a_dataset_falls_into_a_tier_by_its_files_and_few_minutes_count_as_few_files(
    files: int, minutes: float, name: str
) -> None:
    assert choose_tier(read_tiers(), files, minutes * 60).name == name


@pytest.mark.parametrize(
    ("files", "hours", "codes_per_second", "name"),
    [
        (12, 0.04, 140, "medium"), (12, 8, 140, "medium"), (12, 11, 140, "large"), (12, 3, 600, "large"),
        (5000, 20, 140, "large"), (12, 50, 140, "archive"), (9000, 1000, 140, "archive"),
    ],
)  # fmt: skip
def test_much_sound_and_many_codes_are_no_small_dataset_however_few_the_files(
    files: int, hours: float, codes_per_second: float, name: str
) -> None:
    assert choose_tier(read_tiers(), files, hours * 3600, codes_per_second).name == name


def test_an_archive_is_heard_once_at_least_and_validated_often() -> None:
    chosen = PriorSettings.for_size(file_count=6000, train_seconds=[600.0] * 6000)
    assert epochs_per_round(6000 * 75, 1, chosen.batch_size) == MOST_PARTS == chosen.epochs
    assert (chosen.batch_size, chosen.start_offsets) == (32, 1)


def test_the_network_does_not_shrink_from_one_tier_to_the_next() -> None:
    sizes = [tier.knobs["hidden_size"] * tier.knobs["layers"] for tier in read_tiers()]  # type: ignore[operator]  # both are numbers
    assert sizes == sorted(sizes)


def test_shorter_recordings_make_larger_batches() -> None:
    short = PriorSettings.for_size(file_count=50, train_seconds=[1.0] * 40)
    long = PriorSettings.for_size(file_count=50, train_seconds=[30.0] * 40)
    assert short.batch_size > long.batch_size >= 1


@pytest.mark.parametrize(("count", "seconds"), [(25, 1.0), (46, 1.7), (80, 6.0)])
def test_training_takes_about_the_tiers_steps_whatever_the_dataset(count: int, seconds: float) -> None:
    chosen = PriorSettings.for_size(file_count=count, train_seconds=[seconds] * count)
    variants = variants_heard(chosen.start_offsets, copies_of_each(count * seconds), chosen.augmented_share)
    visits = visits_per_round(count, variants)
    parts = epochs_per_round(count, visits, chosen.batch_size)
    steps = chosen.epochs * math.ceil(count * visits / parts / chosen.batch_size)
    assert steps == pytest.approx(choose_tier(read_tiers(), count, count * seconds).steps, rel=0.15)


def test_a_corpus_gets_the_defaults_of_its_size(corpus: CodeCorpus) -> None:
    seconds = [frames * corpus.frame_seconds for frames in corpus.train_frames.tolist()]
    given = {"augmented_share": 0.0}  # for there is no sound to make copies of
    codes_per_second = corpus.shape.frame_codes / corpus.frame_seconds
    by_size = PriorSettings.for_size(
        file_count=50, train_seconds=seconds, variants=1, codes_per_second=codes_per_second, given=given
    )
    assert PriorSettings.for_corpus(corpus, file_count=50) == by_size


def test_the_less_there_is_to_learn_from_the_more_weights_decay_unless_a_config_says_how_much(tmp_path: Path) -> None:
    def decay(seconds: float, **given: float) -> float:
        return PriorSettings.for_size(file_count=20, train_seconds=[seconds], given=given).weight_decay

    assert [decay(seconds) for seconds in (0.1, 10, 41, 70, 300, 4000)] == [8, 8, 3.8, 2.6, 1, 0.5]
    many = PriorSettings.for_size(file_count=20, train_seconds=[41], codes_per_second=5 * HOST_CODES_PER_SECOND)
    assert many.weight_decay == decay(5 * 41) == 1.3, "it is codes that are learned"
    assert decay(70, weight_decay=0.0) == 0
    (config := tmp_path / "prior.toml").write_text("[every]\nweight_decay = 3\n")
    assert PriorSettings.for_size(file_count=5, train_seconds=[1.0], tiers=read_tiers(config)).weight_decay == 3


def test_given_knobs_win() -> None:
    chosen = settings(epochs=7, hidden_size=64, dropout=0.5, architecture="gru")
    assert (chosen.epochs, chosen.hidden_size, chosen.dropout, chosen.architecture) == (7, 64, 0.5, "gru")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"epochs": -1}, {"epochs": 1.5}, {"epochs": True}, {"hidden_size": 0}, {"layers": 0},
        {"heads": -4}, {"dropout": 1.0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"seed": -1},
        {"architecture": "lstm"}, {"device": "tpu"}, {"batch_size": 0}, {"context_seconds": 0}, {"start_offsets": 0},
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_by_name(wrong: dict) -> None:
    (name,) = wrong
    with pytest.raises(PriorError) as refused:
        settings(**wrong)
    assert refused.value.said({name: "IT"}).startswith("IT is ")


@pytest.mark.parametrize("said", ["epochs = 9", "steps = 100", "rounds = 2"])
def test_whoever_says_how_long_training_takes_gets_that_and_else_it_ends_when_it_is_done(
    said: str, tmp_path: Path
) -> None:
    config = tmp_path / "prior.toml"
    for text, patience in ((said, 0.0), (f"{said}\npatience = 0.3", 0.3), ("batch_seconds = 9", 0.25)):
        config.write_text(f"[every]\n{text}\n")
        chosen = PriorSettings.for_size(file_count=50, train_seconds=[2.0] * 40, tiers=read_tiers(config))
        assert chosen.patience == patience
    assert (settings().patience, settings(epochs=9).patience, settings(epochs=9, patience=1).patience) == (0.25, 0, 1)


def test_a_hidden_size_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(PriorError, match="100 cannot be shared by 3 heads"):
        settings(hidden_size=100, heads=3)


def test_heads_given_to_a_gru_are_refused_rather_than_ignored() -> None:
    with pytest.raises(PriorError, match="“Heads” means nothing to a gru"):
        settings(architecture="gru", heads=4)


def test_an_unknown_setting_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(PriorError, match="hiden_size is not a setting; the settings are epochs, patience, hidden_size"):
        settings(hiden_size=3)


def test_settings_survive_being_written_and_read() -> None:
    assert PriorSettings.from_dict(settings(dropout=0.3).as_dict()) == settings(dropout=0.3)


def test_settings_of_another_version_are_read_as_long_as_the_networks_shape_is_there() -> None:
    values = settings(hidden_size=64).as_dict()
    del values["weight_decay"]
    assert PriorSettings.from_dict({**values, "colour": 1}).hidden_size == 64
    del values["heads"]
    with pytest.raises(PriorError, match="lack heads"):
        PriorSettings.from_dict(values)


def test_hours_of_sound_are_encoded_no_more_often_than_training_can_use() -> None:
    long = PriorSettings.for_size(file_count=20, train_seconds=[3600.0] * 16)
    assert long.start_offsets == choose_tier(read_tiers(), 20, 16 * 3600).rounds
    assert settings().start_offsets == 8
    assert (
        PriorSettings.for_size(file_count=20, train_seconds=[3600.0] * 16, given={"start_offsets": 9}).start_offsets
        == 9
    )


def test_a_dataset_with_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(PriorError, match="all are held out"):
        PriorSettings.for_size(file_count=3, train_seconds=[])


@pytest.mark.parametrize("file_count", [8, 46, 300])
def test_the_default_batch_can_be_shared_out_evenly_by_teams_of_two_and_four(file_count: int) -> None:
    seconds = [1.9] * file_count
    assert PriorSettings.for_size(file_count=file_count, train_seconds=seconds).batch_size % 4 == 0


def test_a_config_with_steps_sets_epochs_and_batch_size(tmp_path: Path) -> None:
    config = tmp_path / "prior.toml"
    config.write_text("[every]\nsteps = 1e9\n")
    (tier, *_) = read_tiers(config)
    assert {"epochs", "batch_size"} <= tier.changed
    assert PriorSettings.for_size(file_count=5, train_seconds=[1.0], tiers=(tier,)).epochs == 100_000


def test_a_config_overrides_any_value_of_any_tier(tmp_path: Path) -> None:
    config = tmp_path / "prior.toml"
    config.write_text("[every]\ndropout = 0.4\n[medium]\nhidden_size = 64\nup_to_files = 200\nsteps = 10\n")
    tiers = read_tiers(config)
    assert [tier.knobs["dropout"] for tier in tiers] == [0.4] * 4
    chosen = choose_tier(tiers, 150, 9999)
    assert (chosen.name, chosen.knobs["hidden_size"], chosen.steps) == ("medium", 64, 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[every]\nhiden_size = 3", "hiden_size in .every. is not a setting"),
        ("[every]\nhidden_size = -3", "hidden_size in .every. is -3"),
        ("[huge]\nlayers = 3", "no table .huge.; the tables are every, small, medium, large, archive"),
        ("layers = 3", "layers stands outside a table"),
        ("[every]\nup_to_files = 3", "up_to_files in .every. is not a setting"),
        ("[small]\nsteps = 0", "steps in .small. is 0"),
        ("[small]\nsteps = inf", "steps in .small. is inf"),
        ("[small]\nseed = 1" + "0" * 400, "seed in .small. is 1000"),
        ("[every", "is not TOML"),
    ],
)
def test_a_config_that_means_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "prior.toml"
    config.write_text(text)
    with pytest.raises(PriorError, match=message):
        read_tiers(config)


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriorError, match=r"nowhere\.toml cannot be read"):
        read_tiers(tmp_path / "nowhere.toml")


def test_the_limits_of_the_tiers_are_those_that_the_page_of_settings_states() -> None:
    small, medium, large, archive = ([getattr(tier, limit) for limit in LIMITS] for tier in read_tiers())
    assert (small, medium) == ([12, 0.5, 2, math.inf], [100, 10, math.inf, 5e6])
    assert (large, archive) == ([math.inf, math.inf, math.inf, 2e7], [math.inf] * 4)
    page = " ".join((Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8").split())
    assert "up to 12 files (or half a minute to train on), up to 100 files (or ten minutes), more" in page
    assert "with more than two minutes to train on the second tier is taken" in page
    assert "five million codes, ten hours or so of sound" in page
    assert "more than 20 million codes, some forty hours" in page


def test_settings_are_there_without_waiting_for_torch() -> None:
    check = "import sys, sda_prior_plugin.settings; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

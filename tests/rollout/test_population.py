"""Population files: made whole, gone on with after a stop, and counted as the engine counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from django.core.management import call_command
from django.utils import timezone

from cohorts import mappers, selectors
from cohorts.models import Attribute, Profile
from cohorts.population import people
from cohorts.population.columns import Kept
from cohorts.population.figures import Figure, Scale
from cohorts.population.sql import NotHeld
from cohorts.services import population as files
from cohorts.services import preview, profiles
from rollout.admin.effect_told import in_digits
from rollout.services import population
from tests.rollout.admin import world

pytestmark = pytest.mark.django_db
RULES: list[dict[str, Any]] = [
    {},
    {"!": {}},
    {">": [{"var": "weekly_payments"}, 20]},
    {"and": [{"within": [{"var": "region"}, ["440000"]]}, {"==": [{"var": "staff"}, False]}]},
    {"!": {">": [{"var": "assets_cny"}, 5]}},
    {"cohort": "active"},
]


@pytest.fixture
def bank(redis: object, tmp_path: Path, settings: Any) -> None:
    """50 users, and no flag yet."""
    settings.HUIDU_POPULATION = tmp_path / "population"
    world.users(50)
    world.cohort("active", "活跃用户", "Active users", {">": [{"var": "weekly_payments"}, 3]})


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Take so few users for many, and this sample for a large one."""

    def take(few: int, sample: int) -> None:
        monkeypatch.setattr(people, "FEW", few)
        monkeypatch.setattr(people, "SAMPLE", sample)

    take(10, 1_000)
    return take


def told(found: preview.Comparison) -> tuple[Any, ...]:
    counts = (found.scale, found.before, found.after, found.gain, found.lose)
    portrait = found.portrait
    sample = [(each.key, each.attributes["weekly_payments"]) for each in portrait.sample]
    return (*counts, portrait.regions, portrait.weekly, portrait.tiers, sample)


def test_a_file_counts_what_the_engine_counts(bank: None, many: Any) -> None:
    tiers = {"weilidai": [("much", RULES[2]), ("some", RULES[3])]}
    call_command("build_population", verbosity=0)
    for before, after in zip(RULES, RULES[1:] + RULES[:1], strict=True):
        from_file = preview.compare(before, after, tiers)
        assert told(from_file) == told(preview.by_engine(before, after, tiers))
        assert from_file.scale.exact
    made = people.newest()
    assert made is not None
    assert from_file.as_of == made.about.as_of
    Profile.objects.update(staff=True)  # the file is of its own time, and says so
    assert preview.preview({"==": [{"var": "staff"}, True]}).after.matched == 5


def test_few_users_are_read_as_they_are_now(bank: None) -> None:
    population.build()
    Profile.objects.update(staff=True)
    assert preview.preview({"==": [{"var": "staff"}, True]}).after.matched == 50


def test_of_many_users_a_sample_is_counted_and_everybody_on_demand(
    bank: None, many: Callable[[int, int], None]
) -> None:
    many(10, 20)
    made = population.build()
    assert made is not None
    assert made.about.users == 50
    assert 5 <= made.about.sampled < 50
    rule = RULES[2]
    found = preview.preview(rule)
    assert not found.scale.exact
    assert found.scale == Scale(made.about.sampled, 50)
    whole = preview.compare(rule, rule, everybody=True)
    assert whole.scale.exact
    assert whole.after == preview.by_engine(rule, rule, {}).after
    near = found.scale.of(found.after.matched)
    assert abs(near.users - whole.after.matched) <= near.error


def test_a_stopped_build_goes_on_where_it_was(
    bank: None, many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BATCH", 20)
    assert files.build([], [], seconds=0) is None
    begun = files.progress()
    assert begun is not None
    assert begun.read == 20
    assert people.newest() is None
    assert files.is_due(Kept(), timezone.now())
    made = files.build([], [], seconds=60)
    assert made is not None
    assert made.about.as_of == begun.as_of
    assert made.rows("SELECT count(DISTINCT user_id) FROM {users}", _no_terms(made)) == [(50,)]
    assert files.progress() is None
    assert sorted(os.listdir(people.folder())) == ["lock", "people-1.duckdb"]


def _no_terms(made: people.People) -> Any:
    from cohorts.population.sql import Terms

    return Terms(made.table)


def test_a_file_is_made_anew_when_it_is_due(bank: None, many: Any) -> None:
    now = timezone.now()
    seeds, slots = population.lines()
    kept = Kept(list(mappers.registry().values()), seeds, slots)
    assert files.is_due(kept, now)
    assert population.carry_on(60)
    assert not files.is_due(kept, now)
    assert not population.carry_on(60)
    assert files.is_due(kept, now + timedelta(days=1))
    another = Kept(kept.attributes, [7], slots)
    assert not files.is_due(another, now)
    assert files.is_due(another, now + timedelta(hours=2))
    files.want()  # as when somebody is forgotten
    assert files.is_due(kept, now)
    assert population.carry_on(60)
    assert people.numbers() == [2]


def test_a_damaged_file_is_passed_over(bank: None, many: Any) -> None:
    population.build()
    people.path_of(9).write_bytes(b"no database")
    assert preview.preview({}).after.matched == 50
    with pytest.raises(duckdb.Error):
        people.opened(people.path_of(9))


def test_what_the_file_does_not_hold_is_asked_of_the_rows(bank: None, many: Any) -> None:
    population.build()
    Attribute.objects.create(
        name="shoe_size", type="integer", label_zh="鞋码", label_en="Shoe size"
    )
    profiles.ingest_profiles([{"user_id": "u0001", "shoe_size": 42}], now=timezone.now())
    rule = {">": [{"var": "shoe_size"}, 40]}
    assert preview.preview(rule).after.matched == 1
    made = people.newest()
    assert made is not None
    with pytest.raises(NotHeld, match="shoe_size"):
        preview.in_table(made, preview._reader(), rule, rule, {})
    # A text no column can hold: the engine itself counts.
    odd = {"==": [{"var": "region"}, "440300"]}
    assert preview.by_engine(odd, odd, {}).after == preview.preview(odd).after
    assert len(list(selectors.every_user(selectors.day_of(timezone.now()), mappers.registry()))) > 1


@pytest.mark.parametrize(
    ("counted", "expected"),
    [(0, Figure(0, 384)), (500_000, Figure(50_000_000, 97_512)), (1_000_000, Figure(10**8, 384))],
)
def test_a_sample_tells_its_error(counted: int, expected: Figure) -> None:
    told = Scale(1_000_000, 100_000_000).of(counted)
    assert told.users == expected.users
    assert told.error == pytest.approx(expected.error, rel=0.02)
    assert Scale(50, 50).of(7) == Figure(7)


def test_a_share_of_an_estimate_is_as_sure_as_the_estimate() -> None:
    whole = Scale(1_000_000, 100_000_000).of(250_000)
    part = Scale(1_000_000, 100_000_000).share_of(250_000, 50_000)
    assert part.users == whole.users // 20
    assert part.error == pytest.approx(whole.error / 20, rel=0.01)
    assert Scale(30, 30).share_of(30, 250_000) == Figure(8)  # as a draw rounds 7.5


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (Figure(9_588), "9,588"),
        (Figure(0), "0"),
        (Figure(156_838, 1_090), "≈ 156,800 ± 1,100"),
        (Figure(159_949, 797), "≈ 159,950 ± 800"),
        (Figure(4_886, 99), "≈ 4,886 ± 99"),
        (Figure(0, 21), "≈ 0 ± 21"),
    ],
)
def test_an_estimate_has_no_digits_that_its_error_makes_meaningless(
    figure: Figure, words: str
) -> None:
    assert in_digits(figure) == words
    assert in_digits(figure, "+") == (words.replace("≈ ", "≈ +") if figure.error else f"+{words}")

"""Working days: weekends and holidays do not count, worked weekends do."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huidu import workdays

FRIDAY = date(2027, 1, 29)


@pytest.mark.parametrize(
    ("days", "due"),
    [
        pytest.param(1, date(2027, 2, 1), id="the next working day is Monday"),
        pytest.param(5, date(2027, 2, 5), id="a week later"),
        pytest.param(6, date(2027, 2, 13), id="the worked Saturday after the holiday"),
        pytest.param(7, date(2027, 2, 15), id="and Monday after it"),
    ],
)
def test_due_day_over_a_holiday_with_a_worked_weekend(days: int, due: date) -> None:
    holidays = {date(2027, 2, 6) + timedelta(days=n) for n in range(7)}
    worked = {date(2027, 2, 13)}
    assert workdays.due_day(FRIDAY, days, holidays=holidays, worked=worked) == due


@given(st.dates(date(2020, 1, 1), date(2040, 1, 1)), st.integers(1, 60))
def test_so_many_working_days_lie_between(opened: date, days: int) -> None:
    due = workdays.due_day(opened, days)
    between = (opened + timedelta(days=n) for n in range(1, (due - opened).days + 1))
    assert sum(workdays.is_working(day) for day in between) == days
    assert workdays.is_working(due)


def test_a_calendar_without_working_days_is_refused() -> None:
    class Always:
        def __contains__(self, day: object) -> bool:
            return True

    with pytest.raises(ValueError, match="working days"):
        workdays.due_day(FRIDAY, 1, holidays=Always())

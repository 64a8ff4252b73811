"""The rows behind "who", one idea per file. Rows hold no behaviour: services write them."""

from cohorts.models.attributes import Attribute
from cohorts.models.cohorts import (
    MEMBER_STATES,
    Cohort,
    ListState,
    UserList,
    UserListMember,
)
from cohorts.models.draws import Admission, Draw, DrawJob, DrawPart
from cohorts.models.imports import ImportJob
from cohorts.models.lists import ListBlock, ListEvent, ListPart, ListRejects, ListVersion
from cohorts.models.payments import DailyPayments, PaymentEvent
from cohorts.models.places import Place
from cohorts.models.profiles import DirtyProfile, Profile, ProfileHistory
from cohorts.models.retention import RetentionRun

__all__ = [
    "MEMBER_STATES",
    "Admission",
    "Attribute",
    "Cohort",
    "DailyPayments",
    "DirtyProfile",
    "Draw",
    "DrawJob",
    "DrawPart",
    "ImportJob",
    "ListBlock",
    "ListEvent",
    "ListPart",
    "ListRejects",
    "ListState",
    "ListVersion",
    "PaymentEvent",
    "Place",
    "Profile",
    "ProfileHistory",
    "RetentionRun",
    "UserList",
    "UserListMember",
]

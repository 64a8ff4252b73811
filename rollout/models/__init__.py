"""The rows behind a release, one idea per file. Rows hold no behaviour: services write them."""

from rollout.models.access import ApiKey, Delivery, Webhook
from rollout.models.audit import AuditEntry
from rollout.models.cases import Case, CaseNote
from rollout.models.changes import ChangeRequest
from rollout.models.compliance import ComplianceItem
from rollout.models.decisions import Decision
from rollout.models.evidence import (
    Arm,
    Exposure,
    Feed,
    MetricCell,
    OutcomeEvent,
    RollupMark,
    StreamMark,
)
from rollout.models.flags import ExclusionGroup, Flag, Tier
from rollout.models.funding import FundingPartner, PlacesGiven
from rollout.models.gates import Gate, RegionAssignment, RegionClass, RegionPolicy
from rollout.models.guards import Guard, Metric
from rollout.models.publication import Outbox, Snapshot
from rollout.models.receipts import Receipt
from rollout.models.rollouts import Rollout, Stage
from rollout.models.texts import ReasonText
from rollout.models.waterfalls import WaterfallDay

__all__ = [
    "ApiKey",
    "Arm",
    "AuditEntry",
    "Case",
    "CaseNote",
    "ChangeRequest",
    "ComplianceItem",
    "Decision",
    "Delivery",
    "ExclusionGroup",
    "Exposure",
    "Feed",
    "Flag",
    "FundingPartner",
    "Gate",
    "Guard",
    "Metric",
    "MetricCell",
    "Outbox",
    "OutcomeEvent",
    "PlacesGiven",
    "ReasonText",
    "Receipt",
    "RegionAssignment",
    "RegionClass",
    "RegionPolicy",
    "Rollout",
    "RollupMark",
    "Snapshot",
    "Stage",
    "StreamMark",
    "Tier",
    "WaterfallDay",
    "Webhook",
]

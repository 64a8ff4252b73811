"""The errors Huidu raises, as one tree.

    HuiduError
    ├── RuleError          a rule that cannot be compiled: unknown attribute, operator or type
    ├── SnapshotError      a snapshot that must not be served: damaged, too new, contradicts itself
    ├── ProfileError       a packed profile that cannot be read
    ├── EvidenceError      counts that cannot be true
    ├── InputError         what a caller sent is wrong; carries the JSON path of the fault
    └── StateError         a step that the present state does not allow

A flag check never raises any of them: it answers with reason ``ERROR`` and a ``why`` code.
"""

from __future__ import annotations


class HuiduError(Exception):
    """Something was wrong, said in one sentence: where, what was found, what would be right.

    Args:
        message: the sentence, in English; people's texts are translated where they are shown.
        path: where the fault is, as ``rules[2].weekly_payments`` or ``payments[3].paid_at``.
        code: stable machine-readable code; each class has its own default.
    """

    code = "error"

    def __init__(self, message: str, *, path: str = "", code: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path
        if code is not None:
            self.code = code


class RuleError(HuiduError):
    """A rule cannot be compiled against the attribute registry."""

    code = "rule.invalid"


class SnapshotError(HuiduError):
    """A snapshot is damaged, too new, or contradicts itself; the last good one stays."""

    code = "snapshot.invalid"


class ProfileError(HuiduError):
    """A packed profile record cannot be read."""

    code = "profile.invalid"


class EvidenceError(HuiduError):
    """Counts or readings that cannot be true, such as more failures than users."""

    code = "evidence.invalid"


class InputError(HuiduError):
    """A caller's input is wrong; ``path`` is the JSON path of the fault."""

    code = "input.invalid"


class StateError(HuiduError):
    """The present state does not allow the step asked for."""

    code = "state.conflict"

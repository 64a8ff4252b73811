"""An answer as bytes, made once for everybody who gets it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from edge.clock import DECISION_CHARACTERS
from huidu import reasons
from huidu.answering import degraded as degraded
from huidu.model import Answer, Flag
from huidu.wire import ofrep, visibility

if TYPE_CHECKING:
    from edge.http import Responses


class Rendered:
    """One answer's texts, and how often it was given."""

    def __init__(self, answer: Answer, flag: Flag, snapshot: str, given: list[int]) -> None:
        self.answer = answer
        self.flag = flag
        self.snapshot = snapshot
        self.given = given
        """The one count that all answers with this flag and result share."""
        self.records = flag.record_on_check and (answer.visible or answer.why in reasons.CONTROL)
        """Whether giving this answer is an exposure."""
        self.keeps = flag.receipts_ppm
        """The share of these answers, in ppm, whose receipt is kept."""
        self.failed = answer.reason == reasons.ERROR
        self.needs_place = answer.why == reasons.FUNDING_NOT_RESERVED
        self.asks_more = bool(self.records or self.keeps or self.needs_place)
        """Whether giving this answer is more than telling it."""
        self.item = ofrep.success(answer, flag.type, snapshot=None, decision=False)[0]
        """The OFREP object inside a bulk answer."""
        self.lines: bytes | None = None
        """The second's header lines that `start` begins with."""
        self.start = self.end = b""

    def begin(self, lines: bytes) -> None:
        """Make the OFREP response around a decision id, with these header lines.

        Most responses differ only there, so this is done once a second for each answer.
        """
        start, end = self.single
        length = b"content-length: %d\r\n\r\n" % (len(start) + DECISION_CHARACTERS + len(end))
        self.start, self.end = lines + length + start, end
        self.lines = lines

    @cached_property
    def single(self) -> tuple[bytes, bytes]:
        """The OFREP object, to be split around the decision id."""
        return ofrep.success(self.answer, self.flag.type, snapshot=self.snapshot, decision=True)

    @cached_property
    def visibility(self) -> tuple[bytes, bytes, bytes]:
        return visibility.parts(self.answer, self.snapshot)


class Together:
    """The answers of all flags to one user, as one body for everybody who gets the same."""

    def __init__(self, answers: list[Rendered]) -> None:
        self.answers = answers
        self.times = 0
        """How often the body was given since that was last added to what is `given` of each."""
        more = [each for each in answers if each.asks_more]
        self.recording = [each for each in more if each.records]
        self.keeping = [each for each in more if each.keeps]
        self.need_places = [each for each in more if each.needs_place]
        self._target: str | None = None
        self._tag = ""
        self._content = self._response = b""
        self._lines: bytes | None = None

    def response(self, target: str | None, responses: Responses) -> tuple[str, bytes]:
        """The ETag and the response.

        Args:
            target: path and query of the event stream.
        """
        if not self._content or target != self._target:
            body = ofrep.bulk([each.item for each in self.answers], target)
            self._target, self._tag, self._lines = target, ofrep.etag(body), None
            self._content = b"etag: %b\r\ncontent-length: %d\r\n\r\n%b" % (
                self._tag.encode(),
                len(body),
                body,
            )
        if self._lines is not responses.json_ok:
            self._lines = responses.json_ok
            self._response = self._lines + self._content
        return self._tag, self._response


def result_of(answer: Answer) -> str:
    """What an answer counts as: ``shown``, ``hidden`` or ``error``."""
    if answer.reason == reasons.ERROR:
        return "error"
    return "shown" if answer.visible else "hidden"

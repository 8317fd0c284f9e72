"""
The entries of what looks back: explanations, and what operators ask of the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from jobsvc.http import entry as e
from jobsvc.http import samples, shapes
from jobsvc.http.entry import Entry, Parameter, Reply
from jobsvc.operate.bisecting import Bisected
from jobsvc.operate.differing import Differences
from jobsvc.operate.evidence import ComparedUrls, Explained
from jobsvc.resource import Id

if TYPE_CHECKING:
    from collections.abc import Mapping

_SINCE: Final = Parameter("since", e.PlaceAsked, "Only what came after this; the beginning unless it is sent.", 1800)
_UNTIL: Final = Parameter("until", e.PlaceAsked, "Only what came up to this; the end unless it is sent.", 1841)
_JOB: Final = Parameter("job", Id, "This job only.", e.JOB_ID)
_LIMIT: Final = Parameter("limit", e.LongLimit, "How many at most.", 100)
_PREDICATE: Final = Parameter(
    "predicate",
    Annotated[str, Meta(pattern=r"^\s*[a-z_]+(\.[a-z_]+)?\s*(!=|<=|>=|=|<|>)")],
    "One comparison, with = != < <= > or >=: of a field of `job`, or of `active`, the count of active jobs.",
    "active>=100",
)
_TURN: Final = {
    "position": 1841,
    "job_id": e.JOB_ID,
    "version": 1,
    "type": "job.created",
    "at": samples.EVENT["at"],
    "before": 99,
    "after": 100,
}

PAST: Final[Mapping[tuple[str, str], Entry]] = {
    ("GET", "/api/jobs/{id}/explain"): Entry(
        "explainJob",
        "Jobs",
        {
            200: Reply(
                "Sentences, each with the positions of the events behind it.",
                Explained,
                {
                    "job_id": e.JOB_ID,
                    "position": 1841,
                    "sentences": [
                        {
                            "question": "who_cancelled",
                            "sentence": "Operator olga cancelled it at 2026-11-24T06:46:52.000000Z (requested).",
                            "positions": [1850],
                        }
                    ],
                },
            )
        },
        parameters=(e.AS_OF, e.OWNER),
        more="Guests and users are told of whoever acted the role only.",
    ),
    ("GET", "/api/operator/state-at"): Entry(
        "readStateAt",
        "Operators",
        {
            200: Reply(
                "The job, if it was there yet; without `job` the jobs that were active, by id.",
                shapes.StateAtAnswer,
                {"position": 1841, "jobs": [samples.JOB], "next": None},
            )
        },
        parameters=(
            Parameter("at", e.PlaceAsked, "As of this position or time; the end unless it is sent.", 1841),
            _JOB,
            _LIMIT,
            e.AFTER_JOB,
        ),
        codes=("not-found",),
    ),
    ("GET", "/api/operator/diff"): Entry(
        "readDifferences",
        "Operators",
        {
            200: Reply(
                "The jobs that something happened to in between, in the order of their first events there.",
                Differences,
                {
                    "since": 1800,
                    "until": 1841,
                    "jobs": [
                        {
                            "job_id": e.JOB_ID,
                            "position": 1841,
                            "made": False,
                            "ended": False,
                            "fields": {"state": {"before": "queued", "after": "running"}},
                        }
                    ],
                    "next": None,
                },
            )
        },
        parameters=(_SINCE, _UNTIL, _LIMIT, e.AFTER_NUMBER),
    ),
    ("GET", "/api/operator/bisect"): Entry(
        "bisect",
        "Operators",
        {
            200: Reply(
                "How many events made it so, the first and the last of them.",
                Bisected,
                {
                    "predicate": "active>=100",
                    "since": 0,
                    "until": 1850,
                    "holds": True,
                    "turns": 1,
                    "first": _TURN,
                    "last": _TURN,
                },
            )
        },
        parameters=(_PREDICATE, _JOB, _SINCE, _UNTIL),
        codes=("not-found",),
    ),
    ("GET", "/api/operator/explain"): Entry(
        "explainUrls",
        "Operators",
        {
            200: Reply(
                "What each profile makes of both.",
                ComparedUrls,
                {
                    "rules": [
                        {
                            "profile": "x-post",
                            "rule_version": 1,
                            "keys": ["x:post:185", "x:post:185"],
                            "same": True,
                        }
                    ],
                    "sentences": [
                        {
                            "question": "which_rule",
                            "sentence": "Under the profile x-post, rules 1, both URLs give the key x:post:185.",
                            "positions": [1839],
                        }
                    ],
                },
            )
        },
        parameters=(
            Parameter("url", str, "Twice: the URLs to compare.", samples.JOB["url"], repeats=True),
            Parameter(
                "kind", str, "Under the profile of this kind; under every profile in use unless it is sent.", "x-post"
            ),
        ),
    ),
}

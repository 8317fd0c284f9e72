"""
A driver that fails when it is told to: the k-th statement of a connection raises, before or after it took effect.

Everything else goes to the real driver and a real file. Pass ``FailingConnect().connect`` to a store, open it, arm it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pysqlite3 import OperationalError

from jobsvc.store import driver

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.store.driver import Cursor, RawConnection

When = Literal["before", "after"]


class FailingConnect:
    """
    Makes connections whose writer fails once armed; readers never fail.
    """

    def __init__(self) -> None:
        self.statements: list[str] = []
        """What the writer has run since it was last armed or disarmed."""
        self._fails_at: int | None = None
        self._when: When = "before"
        self._error_name = "SQLITE_IOERR"

    def arm(self, fails_at: int, *, when: When = "before", error_name: str = "SQLITE_IOERR") -> None:
        """
        Statement number *fails_at*, from 0, will raise, once: *before* it took effect, or *after*.
        """
        self.statements = []
        self._fails_at, self._when, self._error_name = fails_at, when, error_name

    def disarm(self) -> None:
        """
        Nothing fails any more, and counting starts anew.
        """
        self.statements, self._fails_at = [], None

    def connect(self, path: Path, *, read_only: bool) -> RawConnection:
        """
        A connection of the real driver, a failing one for the writer.
        """
        raw = driver.connect(path, read_only=read_only)
        return raw if read_only else _FailingConnection(raw, self)

    def run(self, raw: RawConnection, sql: str, *, parameters: Any) -> Cursor:  # noqa: ANN401 - as the driver takes
        """
        The statement is run, unless its turn has come to fail.
        """
        number = len(self.statements)
        self.statements.append(sql)
        if number != self._fails_at:
            return raw.execute(sql, parameters)
        self._fails_at = None
        if self._when == "after":
            raw.execute(sql, parameters).fetchall()
        error = OperationalError("told to fail")
        error.sqlite_errorname = self._error_name
        raise error


class _FailingConnection:
    def __init__(self, raw: RawConnection, failing: FailingConnect) -> None:
        self._raw = raw
        self._failing = failing

    @property
    def in_transaction(self) -> bool:
        return self._raw.in_transaction

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:  # noqa: ANN401 - as the driver takes
        return self._failing.run(self._raw, sql, parameters=parameters)

    def interrupt(self) -> None:
        self._raw.interrupt()

    def close(self) -> None:
        self._raw.close()

"""Prepared statements: built and compiled once for each database, then given to its driver as they are.

SQLAlchemy takes some ten times as long over a short statement as SQLite does, so the statements of the hot path go
round it. What stays its own: the SQL, how values are converted on their way in and out, the errors that are raised, and
the transaction, which is the connection's.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import ARRAY, JSON, Boolean, ColumnElement, Dialect, PoolProxiedConnection, Select, String, bindparam
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine
from typing_extensions import override

Statement = Select[Any] | UpdateBase
Values = Mapping[str, Any]
_Convert = Callable[[Any], Any]

NONE: Values = {}

_PLAIN = re.compile(r"[\w .:-]+", re.ASCII)

#: SQLite's driver takes values by name, too.
_NAMED: Mapping[str, Dialect] = {"sqlite": sqlite.dialect(paramstyle="named")}
#: How the place of a value looks in a statement.
_PLACE = {"sqlite": r":{name}\b", "postgresql": r"%\({name}\)s"}


@dataclass(frozen=True)
class _Form:
    """A statement as one database's driver takes it, and what comes back."""

    sql: str
    fixed: dict[str, Any]  #: the values that the statement itself has, as the driver takes them
    inward: tuple[tuple[str, _Convert | None], ...]  #: the values to be given
    outward: tuple[_Convert | None, ...]
    row: Callable[[Sequence[Any]], Any]


class Speaker(Protocol):
    """What a prepared statement is given to: a `Connection`, or what is less of one."""

    @property
    def dialect(self) -> Dialect:
        """The words of the database."""
        ...

    @property
    def connection(self) -> PoolProxiedConnection:
        """The driver's connection."""
        ...

    def invalidate(self, exception: BaseException | None = None) -> None:
        """It is lost, and not to be used again."""
        ...


@dataclass(frozen=True)
class Alone:
    """A driver's connection for one statement."""

    dialect: Dialect
    connection: PoolProxiedConnection

    def invalidate(self, exception: BaseException | None = None) -> None:
        """It is lost, and not to be used again."""
        self.connection.invalidate(exception)


class Prepared:
    """A statement whose every value is bound by name, or its own; ``columns`` are those of an insert that are given.

    Rows are named tuples of the columns. Values must be given all, under the names of their bind parameters; others
    may be there, too. It raises what `Connection.execute` raises.
    """

    def __init__(self, statement: Statement, *columns: str) -> None:
        self.statement = statement
        self._columns = columns
        self._forms: dict[str, _Form] = {}

    def rows(self, connection: Speaker, values: Values = NONE) -> list[Any]:
        """What it selects or returns."""
        form = self._form(connection.dialect)
        cursor = self._execute(connection, form, values)
        try:
            found = cursor.fetchall()
        finally:
            cursor.close()
        if any(form.outward):
            convert = form.outward
            return [
                form.row([value if way is None else way(value) for way, value in zip(convert, row, strict=True)])
                for row in found
            ]
        return [form.row(row) for row in found]

    def row(self, connection: Speaker, values: Values = NONE) -> Any:  # noqa: ANN401  # its columns, by name
        """The only row, or None; raises LookupError if there are more."""
        found = self.rows(connection, values)
        if len(found) > 1:
            raise LookupError(f"{len(found)} rows where there is one at most: {self.statement}")
        return found[0] if found else None

    def run(self, connection: Speaker, values: Values = NONE) -> int:
        """How many rows it wrote."""
        form = self._form(connection.dialect)
        cursor = self._execute(connection, form, values)
        try:
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def run_each(self, connection: Speaker, many: Sequence[Values]) -> int:
        """Run it for each of these; how many rows it wrote in all."""
        form = self._form(connection.dialect)
        taken = [self._taken(form, values) for values in many]
        cursor = _cursor(connection)
        try:
            cursor.executemany(form.sql, taken)
            return int(cursor.rowcount)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _wrapped(connection, cursor, form.sql, error) from error
        finally:
            cursor.close()

    def _execute(self, connection: Speaker, form: _Form, values: Values) -> Any:  # noqa: ANN401  # the driver's own
        taken = self._taken(form, values)
        cursor = _cursor(connection)
        try:
            cursor.execute(form.sql, taken)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _wrapped(connection, cursor, form.sql, error) from error
        except BaseException:
            cursor.close()
            raise
        return cursor

    def _taken(self, form: _Form, values: Values) -> Any:  # noqa: ANN401  # as the driver takes them
        try:
            taken = dict(form.fixed)
            for name, convert in form.inward:
                value = values[name]
                taken[name] = value if convert is None else convert(value)
        except Exception as error:
            raise StatementError(str(error), form.sql, dict(values), error) from error
        return taken

    def _form(self, dialect: Dialect) -> _Form:
        form = self._forms.get(dialect.name)
        if form is None:
            form = self._forms[dialect.name] = _compiled(self.statement, self._columns, dialect)
        return form


class InOne:
    """Statements that write rows of different tables, in this order; PostgreSQL is given them as one.

    Their bind parameters share one space of names. Each must be right whatever becomes of the others, for in PostgreSQL
    none sees what another wrote.
    """

    def __init__(self, *statements: UpdateBase) -> None:
        self._each = tuple(Prepared(statement) for statement in statements)
        *before, last = statements
        self._all = Prepared(last.add_cte(*(statement.cte(f"part_{at}") for at, statement in enumerate(before))))

    def run(self, connection: Speaker, values: Values) -> None:
        """Write the rows."""
        if connection.dialect.name == "postgresql":
            self._all.run(connection, values)
            return
        for statement in self._each:
            statement.run(connection, values)


class Several(TypeDecorator[Sequence[str]]):
    """Any number of texts, as the one value of a bind parameter."""

    impl = JSON
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """PostgreSQL has arrays."""
        return dialect.type_descriptor(ARRAY(String()) if dialect.name == "postgresql" else JSON())


class Listed(TypeDecorator[Sequence[str | int]]):
    """A PostgreSQL array of plain words, or of numbers, in the database's own writing.

    The driver would look at each to find out what it is, which takes longer than all else that it does.
    """

    impl = String
    cache_ok = True

    @override
    def process_bind_param(self, value: Sequence[str | int] | None, dialect: Dialect) -> str | None:
        """As the database reads it; raises ValueError for what is no plain word."""
        if value is None:
            return None
        words = [str(each) for each in value]
        if not all(_PLAIN.fullmatch(word) for word in words):
            raise ValueError(f"not plain words: {value}")
        return "{" + ",".join(f'"{word}"' for word in words) + "}"


class among(FunctionElement[bool]):  # noqa: N801  # SQL functions are written in lower case
    """Whether the column's value is one of those that the bind parameter is given: one statement for any number."""

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        super().__init__(column, bindparam(name, type_=Several()))


@compiles(among, "sqlite")
def _among_in_sqlite(element: among, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # handed on
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} IN (SELECT value FROM json_each({values})))"  # noqa: S608  # both are compiled


@compiles(among, "postgresql")
def _among_in_postgresql(element: among, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # handed on
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} = ANY ({values}))"


def tell(connection: Speaker, sql: str) -> None:
    """Give the driver a statement without values or an answer."""
    cursor = _cursor(connection)
    try:
        cursor.execute(sql)
    except connection.dialect.loaded_dbapi.Error as error:
        raise _wrapped(connection, cursor, sql, error) from error
    finally:
        cursor.close()


def _compiled(statement: Statement, given: Sequence[str], dialect: Dialect) -> _Form:
    named = _NAMED.get(dialect.name, dialect)
    compiled: Any = statement.compile(dialect=named, column_keys=list(given) or None)
    sql = str(compiled)
    fixed, inward = {}, {}
    for parameter, name in compiled.bind_names.items():
        kind = parameter.type.dialect_impl(dialect)
        convert = kind.bind_processor(dialect)
        if parameter.required:
            inward[name] = convert
            continue
        # A value of the statement itself is written out: a planner that knows it finds partial indexes.
        write = kind.literal_processor(dialect) if parameter.value is not None else _null_of(convert)
        if parameter.expanding:
            if write is None:
                raise TypeError(f"a statement that is another one for other values cannot be prepared: {sql}")
            sql = sql.replace(f"__[POSTCOMPILE_{name}]", ", ".join(write(value) for value in parameter.value))
        elif write is not None:
            literal = write(parameter.value).replace("\\", r"\\")
            sql = re.sub(_PLACE[dialect.name].format(name=name), literal, sql)
        else:
            fixed[name] = parameter.value if convert is None else convert(parameter.value)
    if "POSTCOMPILE" in sql:
        raise TypeError(f"a statement that is another one for other values cannot be prepared: {sql}")
    columns = tuple(statement.exported_columns)
    shown: Callable[[Sequence[Any]], Any] = tuple
    if columns:
        kind_of_row: Any = namedtuple("Row", [str(column.key) for column in columns])  # type: ignore[misc]  # noqa: PYI024
        shown = kind_of_row._make
    return _Form(
        sql=sql,
        fixed=fixed,
        inward=tuple(inward.items()),
        outward=tuple(_outward(column.type, dialect) for column in columns),
        row=shown,
    )


def _null_of(convert: _Convert | None) -> _Convert | None:
    """How None is written, where it is NULL."""
    return (lambda _: "NULL") if convert is None or convert(None) is None else None


def _outward(kind: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def _cursor(connection: Speaker) -> Any:  # noqa: ANN401  # the driver's own
    return connection.connection.cursor()


def _wrapped(connection: Speaker, cursor: Any, sql: str, error: Exception) -> BaseException:  # noqa: ANN401
    """The error as SQLAlchemy would have raised it; a connection that is lost is not used again."""
    dialect = connection.dialect
    lost = dialect.is_disconnect(error, connection.connection, cursor)  # type: ignore[arg-type]
    wrapped = DBAPIError.instance(
        sql, None, error, dialect.loaded_dbapi.Error, connection_invalidated=lost, dialect=dialect
    )
    cursor.close()
    if lost:
        connection.invalidate(error)
    return wrapped

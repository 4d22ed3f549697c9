"""The database: an engine for the process, and a unit of work for each execution."""

from dataclasses import dataclass

from pico_ioc import cleanup, component, configured
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


@configured(prefix="database", mapping="tree")
@dataclass
class DatabaseSettings:
    url: str


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    number: Mapped[str] = mapped_column(primary_key=True)
    product: Mapped[str]
    address: Mapped[str]
    delivered: Mapped[bool] = mapped_column(default=False)


@component(lazy=True)
class Database:
    """Made once in a process, on its event loop, before the first task. All executions share its connections."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._engine = create_async_engine(settings.url)
        self.sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    async def __ainit__(self) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    @cleanup
    async def close(self) -> None:
        await self._engine.dispose()


@component(scope="task")
class UnitOfWork:
    """One session for one execution, shared by all that is made for it."""

    def __init__(self, database: Database) -> None:
        self.session = database.sessions()

    async def commit(self) -> None:
        await self.session.commit()

    @cleanup
    async def close(self) -> None:
        await self.session.close()  # which rolls back what was not committed


@component(scope="prototype")
class Orders:
    """The orders in the database."""

    def __init__(self, work: UnitOfWork) -> None:
        self._session = work.session

    async def find_or_add(self, number: str, product: str, address: str) -> Order:
        """Return an order; a task that runs again finds the one of its first time."""
        order = await self._session.get(Order, number)
        if order is None:
            order = Order(number=number, product=product, address=address, delivered=False)
            self._session.add(order)
        return order

    async def count_delivered(self) -> int:
        found = await self._session.scalar(select(func.count()).where(Order.delivered))
        return found or 0

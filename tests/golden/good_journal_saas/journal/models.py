from sqlalchemy_that_may_be_installed.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase): ...


class Journal(Base):
    __tablename__ = "journals"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]

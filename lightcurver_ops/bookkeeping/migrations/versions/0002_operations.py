"""Operations: raw files with their nights, stars excluded by users, alerts"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _lens_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["lens"], ["lenses.name"], name=op.f(f"fk_{table}_lens"), ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        "raw_files",
        sa.Column("id", _ID, autoincrement=True, nullable=False, comment="number of the row"),
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column("path", sa.Text(), nullable=False, comment="raw file: path or URL"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="bytes"),
        sa.Column(
            "modified",
            sa.String(length=100),
            nullable=False,
            comment="what the storage says of its last change",
        ),
        sa.Column(
            "mjd", sa.Double(), nullable=True, comment="MJD UTC, middle of the exposure, by its header"
        ),
        sa.Column(
            "night",
            sa.String(length=10),
            nullable=True,
            comment="date on which the observing night began, noon to noon at the telescope",
        ),
        sa.Column("problem", sa.Text(), nullable=True, comment="why its night is not known"),
        sa.Column(
            "read_as",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys by which header and night were read",
        ),
        sa.Column(
            "noticed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="UTC, when this state was noticed",
        ),
        _lens_key("raw_files"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_raw_files")),
        sa.UniqueConstraint("lens", "path", name=op.f("uq_raw_files_lens_path")),
        comment="raw files that were noticed, and their observing nights",
    )
    with op.batch_alter_table("raw_files", schema=None) as batch_op:
        batch_op.create_index("ix_raw_files_lens_night", ["lens", "night"], unique=False)

    op.create_table(
        "star_exclusions",
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column("star_gaia_id", sa.String(length=40), nullable=False, comment="stars.gaia_id"),
        sa.Column(
            "name", sa.String(length=10), nullable=False, comment="name of the star when it was excluded"
        ),
        sa.Column("comment", sa.Text(), nullable=False, comment="why"),
        sa.Column("decided_by", sa.String(length=100), nullable=False, comment="who excluded it"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        _lens_key("star_exclusions"),
        sa.PrimaryKeyConstraint("lens", "star_gaia_id", name=op.f("pk_star_exclusions")),
        comment="reference stars that a user took out of the PSF and the normalization",
    )
    op.create_table(
        "alerts",
        sa.Column("id", _ID, autoincrement=True, nullable=False, comment="number of the row"),
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column(
            "key",
            sa.String(length=300),
            nullable=False,
            comment="identifier of the event: one message each",
        ),
        sa.Column(
            "kind", sa.String(length=40), nullable=False, comment="stage_failed, quality_gate, no_frames, ..."
        ),
        sa.Column("subject", sa.Text(), nullable=False, comment="first line of the message"),
        sa.Column("body", sa.Text(), nullable=False, comment="the message"),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.Column("delivery", sa.Text(), nullable=True, comment="JSON: channel: delivered, or why not"),
        _lens_key("alerts"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("lens", "key", name=op.f("uq_alerts_lens_key")),
        comment="alerts that were raised, and what became of them",
    )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alerts_lens"), ["lens"], unique=False)


def downgrade() -> None:
    for table, index in (("alerts", "ix_alerts_lens"), ("raw_files", "ix_raw_files_lens_night")):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_index(index)
        op.drop_table(table)
    op.drop_table("star_exclusions")

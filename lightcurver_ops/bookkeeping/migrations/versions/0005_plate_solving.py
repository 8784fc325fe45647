"""Plate solving: every attempt with its reason, residuals in pixels, and where the search began"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FRAMES: tuple[sa.Column, ...] = (
    sa.Column(
        "plate_solve_rms_pixels", sa.Double(), nullable=True, comment="px, residual of the matched stars"
    ),
    sa.Column("plate_solve_n_catalogue", sa.Integer(), nullable=True, comment="catalogue stars on the frame"),
    sa.Column(
        "plate_solve_hint",
        sa.String(length=40),
        nullable=True,
        comment="where the search began: header, ROI, last solution",
    ),
)


def upgrade() -> None:
    with op.batch_alter_table("frames", schema=None) as batch_op:
        for column in _FRAMES:
            batch_op.add_column(column)
    op.create_table(
        "plate_solve_attempts",
        sa.Column("frame_id", _ID, nullable=False, comment="frames.id"),
        sa.Column(
            "number", sa.Integer(), autoincrement=False, nullable=False, comment="1 is the first attempt"
        ),
        sa.Column("strategy", sa.String(length=40), nullable=False, comment="what tried"),
        sa.Column(
            "hint",
            sa.String(length=40),
            nullable=False,
            comment="where the search began: header, ROI, last solution",
        ),
        sa.Column("outcome", sa.String(length=20), nullable=False, comment="solved, failed or not tried"),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=True,
            comment="why not solved; of a solution: why the hint is not the header's WCS",
        ),
        sa.Column("seconds", sa.Double(), nullable=False, comment="s, how long it took"),
        sa.Column("n_matched", sa.Integer(), nullable=True, comment="catalogue stars matched to sources"),
        sa.Column("rms_arcsec", sa.Double(), nullable=True, comment="arcsec, residual of the matched stars"),
        sa.Column("rms_pixels", sa.Double(), nullable=True, comment="px, residual of the matched stars"),
        sa.Column(
            "log10_chance",
            sa.Double(),
            nullable=True,
            comment="log10 of the probability that the matches are chance",
        ),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["frame_id"],
            ["frames.id"],
            name=op.f("fk_plate_solve_attempts_frame_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("frame_id", "number", name=op.f("pk_plate_solve_attempts")),
        comment="how each frame was plate solved, or why not: the attempts of the last time it was tried",
    )


def downgrade() -> None:
    op.drop_table("plate_solve_attempts")
    with op.batch_alter_table("frames", schema=None) as batch_op:
        for column in _FRAMES:
            batch_op.drop_column(column.name)

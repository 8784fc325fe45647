"""Pages: decisions of users, summaries of light curves, indexes for lists of all lenses"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", _ID, autoincrement=True, nullable=False, comment="number of the row"),
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column(
            "kind",
            sa.String(length=20),
            nullable=False,
            comment="eliminate_frame, restore_frame, exclude_star or include_star",
        ),
        sa.Column(
            "subject",
            sa.String(length=400),
            nullable=False,
            comment="frames.image_relpath, or stars.gaia_id",
        ),
        sa.Column("name", sa.String(length=400), nullable=False, comment="of the frame or star, for people"),
        sa.Column("comment", sa.Text(), nullable=True, comment="why"),
        sa.Column("decided_by", sa.String(length=100), nullable=False, comment="who"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_decisions_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        comment="what users decided about frames and stars, one row each time; none changes after the fact",
    )
    op.create_table(
        "publication_summaries",
        sa.Column("publication_id", _ID, nullable=False, comment="publications.id"),
        sa.Column("n_epochs", sa.Integer(), nullable=False, comment="epochs of the light curve"),
        sa.Column(
            "images",
            sa.Text(),
            nullable=False,
            comment="JSON: per image its last magnitude, its change, its course",
        ),
        sa.ForeignKeyConstraint(
            ["publication_id"],
            ["publications.id"],
            name=op.f("fk_publication_summaries_publication_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("publication_id", name=op.f("pk_publication_summaries")),
        comment="what lists of many light curves show of each",
    )
    op.create_index("ix_decisions_lens_subject", "decisions", ["lens", "subject"])
    op.create_index("ix_stage_runs_lens_stage", "stage_runs", ["lens", "stage", "id"])
    op.create_index("ix_stage_runs_finished_at", "stage_runs", ["finished_at"])


def downgrade() -> None:
    op.drop_index("ix_stage_runs_finished_at", "stage_runs")
    op.drop_index("ix_stage_runs_lens_stage", "stage_runs")
    op.drop_table("publication_summaries")
    op.drop_table("decisions")

"""Light curves that missed a gate of the publication: kept, and not published"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "withheld_light_curves",
        sa.Column("lens", sa.String(100), nullable=False, comment="name of the lens"),
        sa.Column("filter", sa.String(40), nullable=False, comment="name of the filter"),
        sa.Column(
            "reasons", sa.Text(), nullable=False, comment="JSON list: which gates it missed, and by how much"
        ),
        sa.Column("n_epochs", sa.Integer(), nullable=False, comment="epochs in it"),
        sa.Column("file", sa.Text(), nullable=False, comment="where it is kept, relative to the workdir"),
        sa.Column(
            "inputs_hash",
            sa.String(64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version", sa.String(50), nullable=False, comment="version of lightcurver-ops that made it"
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_withheld_light_curves_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lens", "filter", name=op.f("pk_withheld_light_curves")),
        comment="the newest light curve of a filter that missed a gate of the publication, until one passes",
    )


def downgrade() -> None:
    op.drop_table("withheld_light_curves")

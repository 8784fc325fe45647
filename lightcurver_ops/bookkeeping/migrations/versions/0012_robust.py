"""Robust: what the joint model left out of which frames"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column(
        "publications",
        sa.Column(
            "epoch_notes",
            sa.Text(),
            nullable=True,
            comment="JSON: frames.image_relpath: what the joint model left out of it and why, whether all of it",
        ),
    )


def downgrade() -> None:
    op.drop_column("publications", "epoch_notes")

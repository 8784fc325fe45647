"""The read noise that headers say"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column(
        "frames",
        sa.Column(
            "read_noise",
            sa.Double(),
            nullable=True,
            comment="electron, as configured, to compare with the sky; null: not told",
        ),
    )


def downgrade() -> None:
    op.drop_column("frames", "read_noise")

"""PSFs: whether they vary over the field, and how sure that is"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column(
        "PSFs",
        sa.Column(
            "field_order",
            sa.Integer(),
            nullable=True,
            comment="of the PSF's variation over the field; 0: constant",
        ),
    )
    op.add_column(
        "PSFs",
        sa.Column(
            "field_evidence", sa.Double(), nullable=True, comment="gain in ln evidence over a constant PSF"
        ),
    )


def downgrade() -> None:
    op.drop_column("PSFs", "field_evidence")
    op.drop_column("PSFs", "field_order")

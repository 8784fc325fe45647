"""Copies: what a copy between databases added to the ids of a lens"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("lenses", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "id_offset",
                _ID,
                nullable=False,
                server_default="0",
                comment="what a copy from another database added to all ids of the lens; a frame's number, in files "
                "and for users, is its id minus this",
            )
        )


def downgrade() -> None:
    with op.batch_alter_table("lenses", schema=None) as batch_op:
        batch_op.drop_column("id_offset")

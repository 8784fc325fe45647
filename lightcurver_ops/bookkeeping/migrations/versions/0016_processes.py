"""Which process does a run of a stage, also where several containers have the same host name"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column(
        "stage_runs",
        sa.Column("process", sa.Text(), comment="which process of all: container or machine, number, start"),
    )


def downgrade() -> None:
    with op.batch_alter_table("stage_runs") as table:
        table.drop_column("process")

"""What each run of a stage costs"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("stage_runs", sa.Column("cpu_seconds", sa.Double(), comment="of all cores and processes"))
    op.add_column(
        "stage_runs", sa.Column("peak_mib", sa.Double(), comment="MiB of memory at a time, of all processes")
    )


def downgrade() -> None:
    with op.batch_alter_table("stage_runs") as table:
        table.drop_column("peak_mib")
        table.drop_column("cpu_seconds")

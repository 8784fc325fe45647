"""Scale: an index of the runs of stages that did not end well, which are few among millions"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_FAILED = sa.text("status IN ('failed', 'interrupted')")


def upgrade() -> None:
    op.create_index(
        "ix_stage_runs_failed",
        "stage_runs",
        ["lens", "stage", "id"],
        postgresql_where=_FAILED,
        sqlite_where=_FAILED,
    )


def downgrade() -> None:
    op.drop_index("ix_stage_runs_failed", "stage_runs")

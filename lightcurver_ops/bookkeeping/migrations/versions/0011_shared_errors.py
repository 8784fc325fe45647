"""Errors of light curves in two parts: independent from frame to frame, and common to all frames"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_NEW: dict[str, sa.Column] = {
    "publications": sa.Column(
        "common_errors",
        sa.Text(),
        nullable=True,
        comment="JSON: by image the error that all its points share, beside flux_uncertainty; null: within it",
    ),
    "light_curve_points": sa.Column(
        "flux_covariances",
        sa.Text(),
        nullable=True,
        comment="JSON: (electron / s)^2, independent covariance with the later images of the frame; null: not recorded",
    ),
}
_WAS = "electron / s"
_IS = "electron / s, independent from frame to frame where publications.common_errors is known"


# No batches: nothing here needs a table to be copied, on SQLite either.


def upgrade() -> None:
    for table, column in _NEW.items():
        op.add_column(table, column)
    _describe(_IS, _WAS)


def downgrade() -> None:
    _describe(_WAS, _IS)
    for table, column in _NEW.items():
        op.drop_column(table, column.name)


def _describe(comment: str, before: str) -> None:
    if op.get_bind().dialect.supports_comments:  # SQLite has none
        op.alter_column("light_curve_points", "flux_uncertainty", comment=comment, existing_comment=before)
